"""The bundle: every participant's signature of one draft, or none."""

import dataclasses

import pytest

from mcbn_broker.ceremony.bundles import join_bundle
from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.ceremony.predecessor import Predecessor
from mcbn_broker.errors import CeremonyError
from mcbn_protocol.encoding import canonical
from mcbn_protocol.errors import MalformedError, ManifestError, ProtocolError, SignatureInvalidError
from mcbn_protocol.manifest import AgreedManifest


def test_bundle_is_accepted_by_everybody_whatever_the_order(ceremony):
    draft = ceremony.draft()
    agreed = join_bundle(draft, ceremony.signatures(draft, ["carol", "alice", "bob"]), ceremony.roster)
    assert AgreedManifest.parse(agreed.bundle, ceremony.roster).hash == draft.hash


def test_missing_signature_is_named(ceremony):
    draft = ceremony.draft()
    with pytest.raises(ManifestError, match="missing: bob"):
        join_bundle(draft, ceremony.signatures(draft, ["alice", "carol"]), ceremony.roster)


def test_signature_given_twice_is_refused(ceremony):
    draft = ceremony.draft()
    with pytest.raises(CeremonyError, match="two signatures of alice"):
        join_bundle(draft, ceremony.signatures(draft, ["alice", "bob", "carol", "alice"]), ceremony.roster)


def test_signature_of_another_draft_is_refused(ceremony):
    signed, edited = ceremony.draft(), ceremony.draft()
    with pytest.raises(CeremonyError, match="everybody must sign the same file"):
        join_bundle(edited, ceremony.signatures(signed), ceremony.roster)


def test_signature_moved_to_an_edited_draft_does_not_verify(ceremony):
    signed, edited = ceremony.draft(), ceremony.draft()
    moved = [dataclasses.replace(one, manifest_hash=edited.hash) for one in ceremony.signatures(signed)]
    with pytest.raises(SignatureInvalidError, match="alice"):
        join_bundle(edited, moved, ceremony.roster)


def test_signature_under_anothers_name_does_not_verify(ceremony):
    draft = ceremony.draft()
    alice, _bob, carol = ceremony.signatures(draft)
    with pytest.raises(SignatureInvalidError, match="bob"):
        join_bundle(draft, [alice, dataclasses.replace(alice, participant="bob"), carol], ceremony.roster)


def test_predecessor_is_a_bundle_or_a_draft_that_was_given_up(ceremony):
    draft = ceremony.draft()
    agreed = join_bundle(draft, ceremony.signatures(draft), ceremony.roster)
    assert Predecessor.parse(agreed.bundle, ceremony.roster) == Predecessor(1, draft.hash, agreed=True)
    assert Predecessor.parse(draft.payload_bytes, ceremony.roster) == Predecessor(1, draft.hash, agreed=False)


def test_predecessor_without_all_signatures_is_refused(ceremony):
    draft = ceremony.draft()
    bundle = join_bundle(draft, ceremony.signatures(draft), ceremony.roster).bundle
    with pytest.raises(ProtocolError):
        Predecessor.parse(bundle.replace(b'"participant":"bob"', b'"participant":"bobby"'), ceremony.roster)


@pytest.mark.parametrize("data", [b"[]", b"{}", b'{ "epoch": 1 }', canonical({"payload": {}, "signatures": []})])
def test_file_that_is_no_draft_is_refused(data):
    with pytest.raises(MalformedError):
        Draft.parse(data)


def test_draft_with_an_editors_white_space_is_refused(ceremony):
    with pytest.raises(MalformedError, match="canonical"):
        Draft.parse(ceremony.draft().payload_bytes + b"\n")
