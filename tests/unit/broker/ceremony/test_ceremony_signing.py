"""What a consent key signs, and what it must never sign."""

import pytest

from mcbn_broker.ceremony.consent_keys import ConsentKeyFile
from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.ceremony.passphrase import Passphrase
from mcbn_broker.ceremony.predecessor import Predecessor
from mcbn_broker.ceremony.signature_files import ManifestSignature
from mcbn_broker.ceremony.signing import check_own_commitment, signer_of
from mcbn_broker.ceremony.signing_journal import SigningJournal, empty_journal
from mcbn_broker.ceremony.signing_session import create_key_files, journal_path, signing_session
from mcbn_broker.errors import CeremonyError, UsageError
from mcbn_protocol.errors import ManifestError
from mcbn_protocol.manifest import verify_manifest_signature
from mcbn_protocol.roster import build_roster
from mcbn_protocol.signatures import Envelope, Signature


@pytest.fixture
def journal(ceremony):
    return empty_journal(ceremony.people["alice"].consent_public)


def after(draft):
    return Predecessor(draft.manifest.epoch, draft.hash, agreed=True)


def test_signature_verifies_under_the_roster(ceremony):
    draft = ceremony.draft()
    (made,) = ceremony.signatures(draft, ["alice"])
    read = ManifestSignature.parse(made.to_bytes())
    assert read == made
    envelope = Envelope(draft.payload, (Signature("alice", read.signature),))
    verify_manifest_signature(envelope, "alice", read.signature, ceremony.roster)


def test_signer_is_the_participant_with_this_key(ceremony):
    draft = ceremony.draft()
    assert [signer_of(draft, ceremony.roster, one.consent_public) for one in ceremony.people.values()] == [
        "alice",
        "bob",
        "carol",
    ]


def test_key_that_is_not_in_the_roster_cannot_sign(ceremony):
    release_key = ceremony.people["alice"].release_key.public_key().public_bytes_raw()
    with pytest.raises(CeremonyError, match="no participant"):
        signer_of(ceremony.draft(), ceremony.roster, release_key)


def test_draft_of_another_roster_is_refused(ceremony):
    other = build_roster(ceremony.cards[:2], threshold=None)
    with pytest.raises(ManifestError, match="another roster"):
        signer_of(ceremony.draft(), other, ceremony.people["alice"].consent_public)


def test_own_commitment_that_was_replaced_in_the_draft_is_noticed(ceremony):
    cards = ceremony.commitments()
    draft = ceremony.draft(commitments=cards)
    check_own_commitment(draft, "alice", cards[0])
    with pytest.raises(CeremonyError, match="do not sign"):
        check_own_commitment(draft, "alice", ceremony.commitments()[0])
    with pytest.raises(CeremonyError, match="card of bob"):
        check_own_commitment(draft, "alice", cards[1])


def test_same_draft_may_be_signed_again(ceremony, journal):
    draft = ceremony.draft()
    once = journal.admit(draft)
    assert once.admit(draft) is once


def test_two_manifests_of_one_epoch_are_never_signed(ceremony, journal):
    signed = journal.admit(ceremony.draft())
    with pytest.raises(CeremonyError, match="another manifest of epoch 1"):
        signed.admit(ceremony.draft())


def test_repeated_commitment_is_never_signed(ceremony, journal):
    old = ceremony.commitments(1)
    first = ceremony.draft(commitments=old)
    signed = journal.admit(first)
    new = ceremony.commitments(2)
    repeated = type(new[1])("bob", 2, old[1].commitment)
    second = ceremony.draft(after(first), commitments=[new[0], repeated, new[2]])
    with pytest.raises(CeremonyError, match="was signed before, for epoch 1"):
        signed.admit(second)


def test_repeated_commitment_is_refused_across_networks_too(ceremony, journal):
    """Whoever holds one consent key in two networks must not let one share serve both."""
    cards = ceremony.commitments()
    first = ceremony.draft(commitments=cards)
    signed = journal.admit(first)
    smaller = build_roster(ceremony.cards[:2], threshold=None)
    other = type(ceremony)(dict(list(ceremony.people.items())[:2]), smaller)
    with pytest.raises(CeremonyError, match="was signed before"):
        signed.admit(other.draft(commitments=cards[:2]))


def test_other_networks_epochs_are_counted_apart(ceremony, journal):
    signed = journal.admit(ceremony.draft())
    smaller = build_roster(ceremony.cards[:2], threshold=None)
    other = type(ceremony)(dict(list(ceremony.people.items())[:2]), smaller)
    fresh = [one for one in ceremony.commitments() if one.participant != "carol"]
    assert len(signed.admit(other.draft(commitments=fresh)).entries) == 2


def test_next_epoch_follows_the_one_that_was_signed(ceremony, journal):
    first = ceremony.draft()
    signed = journal.admit(first)
    assert len(signed.admit(ceremony.draft(after(first))).entries) == 2
    with pytest.raises(CeremonyError, match="draft anew with --previous"):
        signed.admit(ceremony.draft(after(ceremony.draft())))


def test_older_epoch_is_never_signed(ceremony, journal):
    first = ceremony.draft()
    signed = journal.admit(ceremony.draft(after(first)))
    with pytest.raises(CeremonyError, match="epoch 1 is older"):
        signed.admit(first)


def test_journal_survives_its_file(ceremony, journal):
    signed = journal.admit(ceremony.draft())
    assert SigningJournal.parse(signed.to_bytes(), consent_key=signed.consent_key) == signed


def test_journal_of_another_key_is_refused(ceremony, journal):
    with pytest.raises(CeremonyError, match="another consent key"):
        SigningJournal.parse(journal.to_bytes(), consent_key=ceremony.people["bob"].consent_public)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "alice.consent-key.json"
    key = ConsentKeyFile.make(Passphrase.from_text("correct horse battery"), random=lambda length: b"\x07" * length)
    create_key_files(path, key)
    return path


def test_session_records_before_anything_is_signed(ceremony, key_file):
    draft = ceremony.draft()
    with signing_session(key_file) as session:
        session.record(draft)
    with signing_session(key_file) as session:
        assert session.journal.entries[-1].manifest_hash == draft.hash
        with pytest.raises(CeremonyError, match="another manifest"):
            session.record(ceremony.draft())
    assert journal_path(key_file).stat().st_mode & 0o777 == 0o600


def test_second_session_on_one_key_is_refused(key_file):
    with signing_session(key_file), pytest.raises(UsageError, match="another process"), signing_session(key_file):
        pytest.fail("two sessions at once")


def test_missing_journal_is_refused(key_file, tmp_path):
    copy = tmp_path / "copy.json"
    copy.write_bytes(key_file.read_bytes())
    with pytest.raises(CeremonyError, match=r"journal .* is missing"), signing_session(copy):
        pytest.fail("a session without a journal")


def test_draft_is_the_exact_bytes_of_its_file(ceremony):
    draft = ceremony.draft()
    assert Draft.parse(draft.payload_bytes) == draft
