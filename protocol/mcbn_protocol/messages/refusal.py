"""How a broker says no: the problem that it answers with, and the refusal that it signs."""

import re
from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_protocol import limits
from mcbn_protocol.binding import CHALLENGE
from mcbn_protocol.encoding import JsonObject, b64u_encode, canonical, parse_json
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import UUID, ManifestHash, Role, RosterHash
from mcbn_protocol.messages.broker_signature import verify_broker_signature
from mcbn_protocol.refusals import RefusalCode, refusal_code
from mcbn_protocol.roster import Roster
from mcbn_protocol.signatures import Envelope, Label, sign

CHECK_NAME: Final = re.compile(r"[a-z][a-z0-9_.]{0,63}")


@dataclass(frozen=True)
class Refusal:
    """What a broker signs when it refuses a challenge that it issued.

    Attributes:
        binding: The request's, 32 bytes: it ties the refusal to the workload that made the recipient key.
        reason: The row of the refusal table.
        check: The failing check's name, for `appraisal_failed` and `token_not_authentic`; else None.
        correlation_id: Finds the full reason in the participant's audit.
    """

    roster_hash: RosterHash
    participant: str
    manifest_hash: ManifestHash
    role: Role
    challenge: str
    binding: bytes
    reason: RefusalCode
    check: str | None
    issued_at: int
    correlation_id: str

    def sign(self, release_key: Ed25519PrivateKey) -> Envelope:
        """Return the signed refusal."""
        return sign(release_key, self.participant, Label.REFUSAL, self.roster_hash, self._to_payload())

    def _to_payload(self) -> JsonObject:
        return {
            "roster_hash": self.roster_hash.hex(),
            "participant": self.participant,
            "manifest_hash": self.manifest_hash.hex(),
            "role": self.role.value,
            "challenge": self.challenge,
            "binding": b64u_encode(self.binding),
            "code": self.reason.code,
            "check": self.check,
            "issued_at": self.issued_at,
            "correlation_id": self.correlation_id,
        }

    @classmethod
    def from_envelope(cls, envelope: Envelope, *, participant: str, roster: Roster) -> Self:
        """Read a signed refusal and verify it under the participant's release key of the roster.

        The caller still compares challenge and binding with those of its own request.

        Raises:
            MalformedError: Not this message, or it speaks for another roster or participant.
            RosterError: The participant is not in the roster.
            SignatureInvalidError: Another key signed it.
        """
        verify_broker_signature(envelope, Label.REFUSAL, participant, roster, "refusal")
        with Fields(envelope.payload, "refusal") as fields:
            fields.exactly("roster_hash", roster.hash.hex())
            fields.exactly("participant", participant)
            return cls(
                roster_hash=roster.hash,
                participant=participant,
                manifest_hash=ManifestHash(fields.hash("manifest_hash")),
                role=fields.choice("role", Role),
                challenge=fields.text("challenge", pattern=CHALLENGE),
                binding=fields.base64url("binding", length=limits.HASH_BYTES),
                reason=fields.decoded("code", refusal_code),
                check=fields.nullable("check", lambda name: fields.text(name, pattern=CHECK_NAME)),
                issued_at=fields.integer("issued_at", minimum=0, maximum=limits.TIME_MAX),
                correlation_id=fields.text("correlation_id", pattern=UUID),
            )


@dataclass(frozen=True)
class Problem:
    """The body of every refusal (RFC 9457), `application/problem+json`, with a signed part after a valid challenge."""

    reason: RefusalCode
    check: str | None
    correlation_id: str
    unverified_refusal: Envelope | None

    def to_bytes(self) -> bytes:
        """Return the answer's body."""
        body: JsonObject = {
            "type": f"urn:mcbn:refusal:{self.reason.code}",
            "title": self.reason.title,
            "status": self.reason.status,
            "code": self.reason.code,
            "check": self.check,
            "correlation_id": self.correlation_id,
        }
        if self.unverified_refusal is not None:
            body["refusal"] = self.unverified_refusal.to_json()
        return canonical(body)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a refusal's body. Nothing in it is verified; `Refusal.from_envelope` verifies the part that blames.

        Raises:
            MalformedError: Not this message.
        """
        with Fields(parse_json(body, limit=limits.RESPONSE_BYTES), "problem") as fields:
            reason = fields.decoded("code", refusal_code)
            fields.exactly("type", f"urn:mcbn:refusal:{reason.code}")
            fields.text("title")
            fields.integer("status", minimum=reason.status, maximum=reason.status)
            return cls(
                reason=reason,
                check=fields.nullable("check", lambda name: fields.text(name, pattern=CHECK_NAME)),
                correlation_id=fields.text("correlation_id", pattern=UUID),
                unverified_refusal=fields.optional(
                    "refusal", lambda name: Envelope.from_json(fields.take(name), fields.path(name))
                ),
            )
