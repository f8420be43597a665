"""Verifies an audit chain, and names the first record that is not as it was written."""

from collections.abc import Iterable
from typing import Final

from mcbn_broker.audit.chain import EMPTY, AuditEntry, ChainEntry, ChainHead, chain_hash
from mcbn_broker.errors import AuditError
from mcbn_protocol.encoding import parse_canonical
from mcbn_protocol.errors import MalformedError

_RECORD_BYTES_MAX: Final = 1024 * 1024
_OR_RESTORED: Final = "or a backup older than this head was restored"


def verify_chain(entries: Iterable[ChainEntry], *, expected: Iterable[ChainHead]) -> ChainHead:
    """Verify a whole chain and return its head.

    Args:
        entries: All records, as stored, in order of their sequence.
        expected: What is known from elsewhere (the anchor, a signed release, a signed head): the chain must reach each
            of them and have the same hash there.

    Raises:
        AuditError: Edited, deleted, reordered or cut off; it names the first bad record.
    """
    known = tuple(expected)
    head = EMPTY
    for entry in entries:
        head = _verify_entry(entry, head)
        if any(point.sequence == head.sequence and point.hash != head.hash for point in known):
            raise AuditError(
                head.sequence,
                f"its hash differs from the one that was signed or anchored: the chain was rewritten, {_OR_RESTORED}",
            )
    reached = max((point.sequence for point in known), default=0)
    if reached > head.sequence:
        raise AuditError(head.sequence + 1, f"missing: it once reached {reached}, and was cut off, {_OR_RESTORED}")
    return head


def _verify_entry(entry: ChainEntry, head: ChainHead) -> ChainHead:
    expected = head.sequence + 1
    if entry.sequence != expected:
        raise AuditError(expected, f"missing: the next one stored is {entry.sequence}")
    record = read_entry(entry).record
    if record.get("sequence") != expected:
        raise AuditError(expected, f"says that it is record {record.get('sequence')}: records were reordered")
    if record.get("previous") != head.hash.hex():
        raise AuditError(expected, "does not follow the record before it: records were inserted or exchanged")
    if chain_hash(head.hash, entry.record) != entry.hash:
        raise AuditError(expected, "was edited: its content does not have its hash")
    return ChainHead(expected, entry.hash)


def read_entry(entry: ChainEntry) -> AuditEntry:
    """Return a record with its content parsed.

    Raises:
        AuditError: It is not a canonical JSON object.
    """
    try:
        record = parse_canonical(entry.record, limit=_RECORD_BYTES_MAX)
    except MalformedError as error:
        raise AuditError(entry.sequence, f"was edited: {error}") from error
    if not isinstance(record, dict):
        raise AuditError(entry.sequence, "was edited: it is not a JSON object")
    return AuditEntry(entry.sequence, record, entry.hash)
