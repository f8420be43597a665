"""The chain of audit records: each holds the hash of the one before, so that none can be changed alone."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mcbn_protocol.encoding import JsonObject, canonical, lp
from mcbn_protocol.identifiers import sha256

LABEL: Final = "mcbn/audit-record/v1"
GENESIS: Final = bytes(32)
"""What the first record names as the hash before it."""


class AuditKind(StrEnum):
    """What a record tells."""

    INITIALISED = "initialised"
    INCARNATION = "incarnation"
    SHARE_MADE = "share_made"
    MANIFEST_ACCEPTED = "manifest_accepted"
    EPOCH_RETIRED = "epoch_retired"
    CONSENT_ALLOWED = "consent_allowed"
    CONSENT_PAUSED = "consent_paused"
    RELEASE = "release"
    REFUSAL = "refusal"
    REJECTED_SUMMARY = "rejected_summary"


@dataclass(frozen=True)
class ChainEntry:
    """One record as stored: its place (from 1), its canonical bytes, and the chain hash up to it (32 bytes)."""

    sequence: int
    record: bytes
    hash: bytes


@dataclass(frozen=True)
class AuditEntry:
    """One record, to be read by people and programs: its content instead of its bytes."""

    sequence: int
    record: JsonObject
    hash: bytes


@dataclass(frozen=True)
class ChainHead:
    """The end of a chain: the last record's sequence (0: none) and chain hash."""

    sequence: int
    hash: bytes


EMPTY: Final = ChainHead(0, GENESIS)


def chain_hash(previous: bytes, record: bytes) -> bytes:
    """Return SHA-256(LP("mcbn/audit-record/v1") || LP(previous) || LP(record)).

    Args:
        previous: The chain hash of the record before, 32 bytes.
        record: The record's canonical bytes.
    """
    return sha256(lp(LABEL) + lp(previous) + lp(record))


def next_entry(head: ChainHead, *, time: int, kind: AuditKind, members: JsonObject) -> ChainEntry:
    """Return the record that follows `head`.

    Args:
        head: The chain's present end.
        time: Unix seconds.
        kind: What the record tells.
        members: The rest of it; never a token, share or key.
    """
    place: JsonObject = {
        "sequence": head.sequence + 1,
        "time": time,
        "previous": head.hash.hex(),
        "kind": kind.value,
    }
    record = canonical(members | place)
    return ChainEntry(head.sequence + 1, record, chain_hash(head.hash, record))
