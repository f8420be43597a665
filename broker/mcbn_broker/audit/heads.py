"""Reads where a chain once was from a document that its broker signed: a release or an audit head."""

from mcbn_broker.audit.chain import ChainHead
from mcbn_broker.errors import CeremonyError
from mcbn_protocol import limits
from mcbn_protocol.messages import AuditHead, Release
from mcbn_protocol.roster import Roster
from mcbn_protocol.signatures import Envelope


def parse_signed_head(data: bytes, *, participant: str, roster: Roster) -> ChainHead:
    """Return the point of the participant's chain that a signed release or signed audit head states.

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
        return ChainHead(release.audit_sequence, release.audit_hash)
    head = AuditHead.from_envelope(envelope, roster=roster)
    if head.participant != participant:
        raise CeremonyError(f"this audit head is {head.participant}'s: give one that {participant} signed")
    return ChainHead(head.sequence, head.head)
