"""The end of a participant's audit chain, signed, for the others to keep as witnesses."""

from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_protocol import limits
from mcbn_protocol.encoding import JsonObject, JsonValue, b64u_encode
from mcbn_protocol.errors import MalformedError
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import RosterHash, check_name
from mcbn_protocol.messages.broker_signature import verify_broker_signature
from mcbn_protocol.roster import Roster
from mcbn_protocol.signatures import Envelope, Label, sign

INCARNATION_BYTES: Final = 16
_MEMBERS: Final = frozenset({"roster_hash", "participant", "incarnation", "sequence", "head", "issued_at"})
_TEXT_CHARS: Final = 64


@dataclass(frozen=True)
class AuditHead:
    """The end of a participant's audit chain, as its broker signs it: which incarnation, how long, with which hash."""

    roster_hash: RosterHash
    participant: str
    incarnation: bytes
    sequence: int
    head: bytes
    issued_at: int

    def sign(self, release_key: Ed25519PrivateKey) -> Envelope:
        """Return the signed audit head."""
        payload: JsonObject = {
            "roster_hash": self.roster_hash.hex(),
            "participant": self.participant,
            "incarnation": b64u_encode(self.incarnation),
            "sequence": self.sequence,
            "head": self.head.hex(),
            "issued_at": self.issued_at,
        }
        return sign(release_key, self.participant, Label.AUDIT_HEAD, self.roster_hash, payload)

    @classmethod
    def from_envelope(cls, envelope: Envelope, *, roster: Roster) -> Self:
        """Read a signed audit head and verify it under its participant's release key of the roster.

        Raises:
            MalformedError: Not this message, or of another roster.
            RosterError: Its participant is not in the roster.
            SignatureInvalidError: Another key signed it.
        """
        with Fields(envelope.payload, "audit head") as fields:
            fields.exactly("roster_hash", roster.hash.hex())
            head = cls(
                roster_hash=roster.hash,
                participant=fields.decoded("participant", check_name),
                incarnation=fields.base64url("incarnation", length=INCARNATION_BYTES),
                sequence=fields.integer("sequence", minimum=0, maximum=limits.EPOCH_MAX),
                head=fields.hash("head"),
                issued_at=fields.integer("issued_at", minimum=0, maximum=limits.TIME_MAX),
            )
        verify_broker_signature(envelope, Label.AUDIT_HEAD, head.participant, roster, "audit head")
        return head


def read_unverified_head(value: JsonValue, where: str) -> Envelope:
    """Read a document that may be a signed audit head, and of which nothing is verified.

    Anybody can send one. So its payload's members are looked at before its canonical form is made, which for 60 KB of
    nested containers would cost more than all the rest of a request.

    Raises:
        MalformedError: It has not an audit head's members, or they are longer than those.
    """
    payload = value.get("payload") if isinstance(value, dict) else None
    if not isinstance(payload, dict) or payload.keys() != _MEMBERS or not all(map(_is_short, payload.values())):
        raise MalformedError(f"{where}: not an audit head")
    return Envelope.from_json(value, where)


def _is_short(value: JsonValue) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and len(value) <= _TEXT_CHARS)
