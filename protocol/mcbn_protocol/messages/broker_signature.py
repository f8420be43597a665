"""The one signature of a document that a single broker signs with its release key."""

from mcbn_protocol.roster import Roster
from mcbn_protocol.signatures import Envelope, Label, verify


def verify_broker_signature(envelope: Envelope, label: Label, participant: str, roster: Roster, what: str) -> None:
    """Verify a document that one broker signs with its release key.

    Raises:
        MalformedError: Not signed by exactly this participant.
        RosterError: The participant is not in the roster.
        SignatureInvalidError: The signature does not verify.
    """
    verify(
        roster.participant(participant).release_key,
        envelope.sole_signature(participant),
        label=label,
        roster_hash=roster.hash,
        payload_bytes=envelope.payload_bytes,
        participant=participant,
        what=what,
    )
