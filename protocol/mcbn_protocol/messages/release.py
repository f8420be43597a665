"""Asking for a release with evidence, and the release that a broker signs."""

import re
from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_protocol import limits
from mcbn_protocol.binding import CHALLENGE, binding_hash
from mcbn_protocol.encoding import JsonObject, b64u_encode, canonical, parse_json
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import ManifestHash, Role, RosterHash
from mcbn_protocol.messages.audit_head import read_unverified_head
from mcbn_protocol.messages.broker_signature import verify_broker_signature
from mcbn_protocol.reference_values import EvidenceKind
from mcbn_protocol.roster import Roster
from mcbn_protocol.sealing import PUBLIC_KEY_BYTES, SEALED_BYTES, Kem
from mcbn_protocol.signatures import Envelope, Label, sign

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class ReleaseRequest:
    """`POST /v1/releases`: the evidence for one challenge, and the key to which the share shall be sealed.

    `unverified_token` is a compact JWS that nobody has looked at yet; `audit_heads` are other participants' signed
    audit heads, also unverified, which the broker keeps as a witness.
    """

    challenge: str
    role: Role
    manifest_hash: ManifestHash
    kind: EvidenceKind
    unverified_token: str
    kem: Kem
    recipient_key: bytes
    audit_heads: tuple[Envelope, ...]

    def binding(self, roster_hash: RosterHash, participant: str) -> bytes:
        """Return the binding (32 bytes) of this request to a participant; see `binding_hash`."""
        return binding_hash(
            roster_hash=roster_hash,
            participant=participant,
            role=self.role,
            manifest_hash=self.manifest_hash,
            challenge=self.challenge,
            kem=self.kem,
            recipient_key=self.recipient_key,
        )

    def to_bytes(self) -> bytes:
        """Return the request's body."""
        return canonical(
            {
                "challenge": self.challenge,
                "role": self.role.value,
                "manifest_hash": self.manifest_hash.hex(),
                "evidence": {"kind": self.kind.value, "token": self.unverified_token},
                "kem": self.kem.value,
                "recipient_key": b64u_encode(self.recipient_key),
                "audit_heads": [head.to_json() for head in self.audit_heads],
            }
        )

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a request's body (at most 64 KiB).

        Raises:
            MalformedError: Not this message.
        """
        with Fields(parse_json(body, limit=limits.REQUEST_BYTES), "request") as fields:
            kem = fields.choice("kem", Kem)
            kind, token = _evidence(fields.object("evidence"))
            heads = fields.array("audit_heads", minimum=0, maximum=limits.PARTICIPANTS)
            return cls(
                challenge=fields.text("challenge", pattern=CHALLENGE),
                role=fields.choice("role", Role),
                manifest_hash=ManifestHash(fields.hash("manifest_hash")),
                kind=kind,
                unverified_token=token,
                kem=kem,
                recipient_key=fields.base64url("recipient_key", length=PUBLIC_KEY_BYTES[kem]),
                audit_heads=tuple(read_unverified_head(head, "request.audit_heads") for head in heads),
            )


def _evidence(value: JsonObject) -> tuple[EvidenceKind, str]:
    with Fields(value, "request.evidence") as fields:
        kind = fields.choice("kind", EvidenceKind)
        return kind, fields.text("token", pattern=_TOKEN, maximum=limits.TOKEN_CHARS)


@dataclass(frozen=True)
class Release:
    """What a broker signs when it releases its share. Times are Unix seconds."""

    roster_hash: RosterHash
    participant: str
    epoch: int
    manifest_hash: ManifestHash
    role: Role
    share_index: int
    kem: Kem
    binding: bytes
    issued_at: int
    lease_seconds: int
    audit_sequence: int
    audit_hash: bytes
    sealed_share: bytes

    def sign(self, release_key: Ed25519PrivateKey) -> Envelope:
        """Return the signed release."""
        return sign(release_key, self.participant, Label.RELEASE, self.roster_hash, self._to_payload())

    def _to_payload(self) -> JsonObject:
        return {
            "roster_hash": self.roster_hash.hex(),
            "participant": self.participant,
            "epoch": self.epoch,
            "manifest_hash": self.manifest_hash.hex(),
            "role": self.role.value,
            "share_index": self.share_index,
            "kem": self.kem.value,
            "binding": b64u_encode(self.binding),
            "issued_at": self.issued_at,
            "lease_seconds": self.lease_seconds,
            "audit_sequence": self.audit_sequence,
            "audit_hash": self.audit_hash.hex(),
            "sealed_share": b64u_encode(self.sealed_share),
        }

    @classmethod
    def parse(cls, body: bytes, *, participant: str, roster: Roster) -> Self:
        """Read a signed release and verify it under the participant's release key of the roster.

        The caller still compares every field with what it asked for.

        Raises:
            MalformedError: Not this message, or of another roster or participant.
            RosterError: The participant is not in the roster.
            SignatureInvalidError: Another key signed it.
        """
        envelope = Envelope.parse(body, limit=limits.RESPONSE_BYTES)
        verify_broker_signature(envelope, Label.RELEASE, participant, roster, "release")
        with Fields(envelope.payload, "release") as fields:
            fields.exactly("roster_hash", roster.hash.hex())
            fields.exactly("participant", participant)
            kem = fields.choice("kem", Kem)
            return cls(
                roster_hash=roster.hash,
                participant=participant,
                epoch=fields.integer("epoch", minimum=1, maximum=limits.EPOCH_MAX),
                manifest_hash=ManifestHash(fields.hash("manifest_hash")),
                role=fields.choice("role", Role),
                share_index=fields.integer("share_index", minimum=1, maximum=limits.PARTICIPANTS),
                kem=kem,
                binding=fields.base64url("binding", length=limits.HASH_BYTES),
                issued_at=fields.integer("issued_at", minimum=0, maximum=limits.TIME_MAX),
                lease_seconds=fields.integer("lease_seconds", minimum=1, maximum=limits.LEASE_SECONDS_MAX),
                audit_sequence=fields.integer("audit_sequence", minimum=1, maximum=limits.EPOCH_MAX),
                audit_hash=fields.hash("audit_hash"),
                sealed_share=fields.base64url("sealed_share", length=SEALED_BYTES[kem]),
            )
