import hashlib
import json

import pytest

from mcbn_broker.audit.chain import EMPTY, AuditKind, ChainEntry, ChainHead, chain_hash, next_entry
from mcbn_broker.audit.heads import parse_signed_head
from mcbn_broker.audit.verification import read_entry, verify_chain
from mcbn_broker.errors import AuditError, CeremonyError
from mcbn_protocol.errors import MalformedError, SignatureInvalidError
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.messages import AuditHead, Release
from mcbn_protocol.sealing import Kem


def chain(length: int) -> list[ChainEntry]:
    entries, head = [], EMPTY
    for number in range(length):
        entry = next_entry(head, time=1000 + number, kind=AuditKind.RELEASE, members={"role": "client"})
        entries.append(entry)
        head = ChainHead(entry.sequence, entry.hash)
    return entries


def first_bad(entries, expected=()) -> int:
    with pytest.raises(AuditError) as caught:
        verify_chain(entries, expected=expected)
    assert str(caught.value.sequence) in str(caught.value)
    return caught.value.sequence


def test_the_chain_hash_by_hand():
    record = b'{"kind":"release","previous":"' + b"00" * 32 + b'","role":"client","sequence":1,"time":1000}'
    (entry,) = chain(1)
    assert entry.record == record
    lengths = [len(part).to_bytes(4, "big") + part for part in (b"mcbn/audit-record/v1", bytes(32), record)]
    assert entry.hash == hashlib.sha256(b"".join(lengths)).digest()


def test_a_whole_chain_verifies():
    entries = chain(10)
    assert verify_chain(entries, expected=[]) == ChainHead(10, entries[-1].hash)
    assert verify_chain([], expected=[]) == EMPTY
    known = [ChainHead(4, entries[3].hash), ChainHead(10, entries[9].hash), ChainHead(4, entries[3].hash)]
    verify_chain(entries, expected=known)


def test_members_cannot_displace_a_records_place():
    entry = next_entry(EMPTY, time=1, kind=AuditKind.REFUSAL, members={"sequence": 9, "kind": "release"})
    assert json.loads(entry.record) == {"sequence": 1, "time": 1, "previous": "00" * 32, "kind": "refusal"}


@pytest.mark.parametrize("place", [0, 4, 9])
def test_an_edit_is_named(place):
    entries = chain(10)
    edited = entries[place].record.replace(b'"client"', b'"server"')
    entries[place] = ChainEntry(place + 1, edited, entries[place].hash)
    assert first_bad(entries) == place + 1


def test_an_edit_with_its_own_hash_mended_is_named_at_the_next_record():
    entries = chain(10)
    edited = entries[4].record.replace(b'"client"', b'"server"')
    entries[4] = ChainEntry(5, edited, chain_hash(entries[3].hash, edited))
    assert first_bad(entries) == 6


def test_a_chain_rewritten_to_its_end_is_found_by_what_was_signed():
    original, rewritten = chain(10), []
    head = EMPTY
    for one in original:
        role = "server" if one.sequence >= 5 else "client"
        entry = next_entry(head, time=999 + one.sequence, kind=AuditKind.RELEASE, members={"role": role})
        rewritten.append(entry)
        head = ChainHead(entry.sequence, entry.hash)
    verify_chain(rewritten, expected=[])
    assert first_bad(rewritten, [ChainHead(8, original[7].hash)]) == 8
    assert first_bad(rewritten, [ChainHead(8, rewritten[7].hash), ChainHead(8, original[7].hash)]) == 8


@pytest.mark.parametrize("place", [0, 4])
def test_a_deletion_is_named(place):
    entries = chain(10)
    del entries[place]
    assert first_bad(entries) == place + 1


def test_a_deletion_with_the_rest_renumbered_is_named():
    entries = chain(10)
    del entries[4]
    entries[4:] = [ChainEntry(one.sequence - 1, one.record, one.hash) for one in entries[4:]]
    assert first_bad(entries) == 5


def test_a_reordering_is_named():
    entries = chain(10)
    entries[3], entries[6] = entries[6], entries[3]
    assert first_bad(entries) == 4
    renumbered = [ChainEntry(place + 1, one.record, one.hash) for place, one in enumerate(entries)]
    assert first_bad(renumbered) == 4


def test_an_insertion_is_named():
    entries = chain(3)
    strange = next_entry(ChainHead(1, bytes(32)), time=1, kind=AuditKind.RELEASE, members={})
    entries[1] = strange
    assert first_bad(entries) == 2


def test_a_truncation_is_found_only_with_what_was_signed():
    entries = chain(10)
    verify_chain(entries[:7], expected=[])
    assert first_bad(entries[:7], [ChainHead(10, entries[9].hash)]) == 8
    assert first_bad([], [ChainHead(1, entries[0].hash)]) == 1


@pytest.mark.parametrize("record", [b"not json", b'{"a": 1}', b"[1]", b"\xff"])
def test_a_record_that_is_not_a_canonical_object_is_an_edit(record):
    assert first_bad([ChainEntry(1, record, bytes(32))]) == 1
    with pytest.raises(AuditError, match="was edited"):
        read_entry(ChainEntry(1, record, bytes(32)))


# --- signed heads


def head_of(world, name: str, *, key: str | None = None) -> bytes:
    head = AuditHead(world.roster.hash, name, b"i" * 16, 7, b"h" * 32, 1000)
    return head.sign(world.release_keys[key or name]).to_bytes()


def release_of(world) -> Release:
    return Release(
        roster_hash=world.roster.hash,
        participant="alice",
        epoch=1,
        manifest_hash=ManifestHash(b"m" * 32),
        role=Role.CLIENT,
        share_index=1,
        kem=Kem.X25519,
        binding=b"b" * 32,
        issued_at=1000,
        lease_seconds=60,
        audit_sequence=7,
        audit_hash=b"h" * 32,
        sealed_share=bytes(80),
    )


def test_a_signed_release_or_audit_head_states_a_point_of_the_chain(world):
    arguments = {"participant": "alice", "roster": world.roster}
    release = release_of(world).sign(world.release_keys["alice"]).to_bytes()
    assert parse_signed_head(release, **arguments) == ChainHead(7, b"h" * 32)
    assert parse_signed_head(head_of(world, "alice"), **arguments) == ChainHead(7, b"h" * 32)


def test_a_head_that_proves_nothing_about_our_chain_is_refused(world):
    arguments = {"participant": "alice", "roster": world.roster}
    with pytest.raises(CeremonyError, match="bob"):
        parse_signed_head(head_of(world, "bob"), **arguments)
    with pytest.raises(SignatureInvalidError):
        parse_signed_head(head_of(world, "alice", key="bob"), **arguments)
    forged = release_of(world).sign(world.release_keys["bob"]).to_bytes()
    with pytest.raises(SignatureInvalidError):
        parse_signed_head(forged, **arguments)
    with pytest.raises(MalformedError):
        parse_signed_head(b"{}", **arguments)
