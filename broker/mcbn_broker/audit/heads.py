"""Reads where a chain once was from a document that its broker signed: a release or an audit head."""

from dataclasses import dataclass

from mcbn_broker.audit.chain import ChainHead
from mcbn_broker.errors import CeremonyError
from mcbn_protocol import limits
from mcbn_protocol.messages import AuditHead, Release
from mcbn_protocol.roster import Roster
from mcbn_protocol.signatures import Envelope


@dataclass(frozen=True)
class SignedPoint:
    """What such a document says.

    Attributes:
        head: Where the chain was.
        epoch: The epoch that was released; 0 in an audit head, which names none.
    """

    head: ChainHead
    epoch: int


def parse_signed_head(data: bytes, *, participant: str, roster: Roster) -> ChainHead:
    """Return the point of the participant's chain that a document states; see `parse_signed_point`."""
    return parse_signed_point(data, participant=participant, roster=roster).head


def parse_signed_point(data: bytes, *, participant: str, roster: Roster) -> SignedPoint:
    """Return what a signed release or signed audit head states of the participant's chain.

    Args:
        data: The file.
        participant: Whose chain is verified.
        roster: Gives the release key.

    Raises:
        ProtocolError: Neither of the two, or signed by another key.
        CeremonyError: Signed by another participant.
    """
    envelope = Envelope.parse(data, limit=limits.RESPONSE_BYTES)
    if "audit_sequence" in envelope.payload:
        release = Release.parse(data, participant=participant, roster=roster)
        return SignedPoint(ChainHead(release.audit_sequence, release.audit_hash), release.epoch)
    head = AuditHead.from_envelope(envelope, roster=roster)
    if head.participant != participant:
        raise CeremonyError(f"this audit head is {head.participant}'s: give one that {participant} signed")
    return SignedPoint(ChainHead(head.sequence, head.head), 0)
