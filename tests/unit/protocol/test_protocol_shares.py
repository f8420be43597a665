"""Secrets, shares, commitments and the key schedule."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcbn_protocol.encoding import canonical
from mcbn_protocol.errors import (
    KeyScheduleError,
    MalformedError,
    RosterError,
    ShareMismatchError,
    SignatureInvalidError,
)
from mcbn_protocol.identifiers import ManifestHash
from mcbn_protocol.key_schedule import (
    LEGACY_SCHEMES,
    CombinedKey,
    EpochSecret,
    Psk,
    Purpose,
    Scheme,
    derive,
    epoch_secret,
    expand,
    key_check,
    legacy_combination,
    psk_identity,
)
from mcbn_protocol.secret import Secret
from mcbn_protocol.shares import CommitmentCard, Share, check_share, commitment

RAW = bytes(range(32))
MANIFEST_HASH = ManifestHash(b"m" * 32)
shares = st.binary(min_size=32, max_size=32).filter(lambda raw: len(set(raw)) > 1).map(Share)
KINDS = [Secret, Share, EpochSecret, CombinedKey, Psk]


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_shows_nothing(kind):
    secret = kind(RAW)
    shown = f"{secret!r} {secret} {[secret]} {{1: {secret!r}}}"
    assert RAW.hex() not in shown
    assert repr(RAW) not in shown
    assert repr(secret) == f"<{kind.__name__}: 32 bytes>"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy, hash, vars])
def test_a_secret_is_not_serialised_copied_or_hashed(kind, leak):
    with pytest.raises(TypeError):
        leak(kind(RAW))


@pytest.mark.parametrize("kind", KINDS)
def test_secrets_are_equal_only_within_their_kind(kind):
    assert kind(RAW) == kind(bytes(bytearray(RAW)))
    assert kind(RAW) != kind(RAW[::-1])
    assert kind(RAW) != RAW
    assert all(kind(RAW) != other(RAW) for other in KINDS if other is not kind)


@pytest.mark.parametrize("raw", [b"", RAW[:31], RAW + b"x"])
def test_a_share_of_another_length_is_refused(raw):
    with pytest.raises(KeyScheduleError, match="32 bytes"):
        Share(raw)


@pytest.mark.parametrize("byte", [0, 0x41, 255])
def test_a_share_that_was_never_drawn_is_refused(byte):
    with pytest.raises(KeyScheduleError, match="not drawn at random"):
        Share(bytes([byte]) * 32)


@given(shares, st.integers(0, 255))
def test_a_share_with_any_bit_flipped_does_not_match_and_its_owner_is_named(share, bit):
    raw = bytearray(share.reveal())
    raw[bit // 8] ^= 1 << (bit % 8)
    if len(set(raw)) == 1:
        return
    committed = commitment("net-1", "bob", 1, share)
    check_share("net-1", "bob", 1, share, committed)
    with pytest.raises(ShareMismatchError, match="bob") as caught:
        check_share("net-1", "bob", 1, Share(bytes(raw)), committed)
    assert caught.value.participant == "bob"


@pytest.mark.parametrize("of", [("net-2", "bob", 1), ("net-1", "carol", 1), ("net-1", "bob", 2)])
def test_a_commitment_is_bound_to_network_participant_and_epoch(of):
    network, participant, epoch = of
    with pytest.raises(ShareMismatchError):
        check_share(network, participant, epoch, Share(RAW), commitment("net-1", "bob", 1, Share(RAW)))


@pytest.mark.parametrize("spoil", [lambda c: c[:-1] + bytes([c[-1] ^ 1]), lambda c: c[:31], lambda c: b""])
def test_another_commitment_is_refused(spoil):
    with pytest.raises(ShareMismatchError):
        check_share("net-1", "bob", 1, Share(RAW), spoil(commitment("net-1", "bob", 1, Share(RAW))))


@pytest.fixture
def card():
    return CommitmentCard("bob", 2, b"c" * 32)


def test_a_commitment_card_reads_back(card, release_key, roster):
    assert CommitmentCard.parse(card.sign(release_key("bob"), roster).to_bytes(), roster) == card


def test_a_commitment_card_of_a_stranger_is_refused(card, release_key, roster):
    stranger = CommitmentCard("dave", 2, b"c" * 32).sign(release_key("bob"), roster)
    with pytest.raises(RosterError, match="dave"):
        CommitmentCard.parse(stranger.to_bytes(), roster)


@pytest.mark.parametrize("signer", ["alice", "carol"])
def test_a_commitment_card_signed_by_another_is_refused(card, release_key, roster, signer):
    with pytest.raises(SignatureInvalidError, match="commitment card"):
        CommitmentCard.parse(card.sign(release_key(signer), roster).to_bytes(), roster)


def test_a_commitment_card_signed_with_the_consent_key_is_refused(card, consent_key, roster):
    with pytest.raises(SignatureInvalidError):
        CommitmentCard.parse(card.sign(consent_key("bob"), roster).to_bytes(), roster)


@pytest.mark.parametrize(
    "change", [{"format": "x"}, {"epoch": 0}, {"epoch": True}, {"commitment": "00"}, {"participant": "B"}, {"x": 1}]
)
def test_a_commitment_card_of_another_shape_is_refused(card, release_key, roster, change):
    value = card.sign(release_key("bob"), roster).to_json()
    with pytest.raises(MalformedError):
        CommitmentCard.parse(canonical(value | {"payload": value["payload"] | change}), roster)


@given(st.dictionaries(st.sampled_from(["a", "ab", "b", "c", "d"]), shares, min_size=1))
def test_the_order_in_which_shares_arrive_does_not_matter(given_shares):
    if len({share.reveal() for share in given_shares.values()}) != len(given_shares):
        return
    backwards = dict(reversed(given_shares.items()))
    for scheme in Scheme:
        assert epoch_secret(scheme, given_shares) == epoch_secret(scheme, backwards)


def test_every_scheme_name_share_and_set_gives_another_secret():
    one, two, three = (Share(bytes([n]) + RAW[1:]) for n in range(1, 4))
    sets = [
        {"a": one, "b": two},
        {"a": two, "b": one},
        {"a": one, "c": two},
        {"a": one, "b": two, "c": three},
        {"a": one},
    ]
    secrets = [epoch_secret(Scheme.HKDF_SHA256, chosen).reveal() for chosen in sets]
    secrets += [epoch_secret(scheme, sets[0]).reveal() for scheme in sorted(LEGACY_SCHEMES)]
    assert len(set(secrets)) == len(secrets)


@pytest.mark.parametrize("scheme", Scheme)
def test_no_shares_and_equal_shares_are_refused(scheme):
    with pytest.raises(KeyScheduleError, match="no share"):
        epoch_secret(scheme, {})
    with pytest.raises(KeyScheduleError, match="equal"):
        epoch_secret(scheme, {"a": Share(RAW), "b": Share(RAW)})


@pytest.mark.parametrize("scheme", sorted(LEGACY_SCHEMES))
def test_a_legacy_combination_refuses_no_shares_and_equal_shares(scheme):
    with pytest.raises(KeyScheduleError, match="no share"):
        legacy_combination(scheme, [])
    with pytest.raises(KeyScheduleError, match="equal"):
        legacy_combination(scheme, [Share(RAW), Share(RAW)])


def test_the_default_scheme_is_no_legacy_combination():
    with pytest.raises(KeyScheduleError, match="not a legacy combination"):
        legacy_combination(Scheme.HKDF_SHA256, [Share(RAW)])


def test_the_order_of_a_legacy_combination_matters():
    one, two = Share(RAW), Share(RAW[::-1])
    for scheme in LEGACY_SCHEMES:
        assert legacy_combination(scheme, [one, two]) != legacy_combination(scheme, [two, one])


def test_every_purpose_manifest_and_epoch_has_a_key_of_its_own():
    secret = EpochSecret(RAW)
    purposes = [purpose for purpose in Purpose if purpose is not Purpose.KEY_CHECK]
    keys = [
        derive(secret, one, h, e).reveal()
        for one in purposes
        for h in (MANIFEST_HASH, ManifestHash(b"n" * 32))
        for e in (1, 2)
    ]
    checks = [bytes.fromhex(key_check(secret, MANIFEST_HASH, epoch)) for epoch in (1, 2)]
    assert len(set(keys + checks)) == len(keys) + 2
    identities = [psk_identity(MANIFEST_HASH, epoch, one) for one in Purpose for epoch in (1, 2)]
    assert len(set(identities)) == len(identities)


def test_the_public_check_value_is_never_a_key():
    with pytest.raises(KeyScheduleError, match="public"):
        derive(EpochSecret(RAW), Purpose.KEY_CHECK, MANIFEST_HASH, 1)


@pytest.mark.parametrize(
    ("secret", "manifest_hash"), [(RAW[:31], MANIFEST_HASH), (RAW, b"short"), (b"", MANIFEST_HASH)]
)
def test_a_secret_or_hash_of_another_length_is_refused(secret, manifest_hash):
    with pytest.raises(KeyScheduleError, match="32 bytes"):
        expand(EpochSecret(secret), "label", manifest_hash, 1)


def test_a_psk_identity_fits_every_file_format():
    identity = psk_identity(MANIFEST_HASH, 1, Purpose.TLS13_PSK)
    assert len(identity) == 28
    assert identity.startswith("mcbn1.")
    assert not set(identity) & set(":# \t\n")
