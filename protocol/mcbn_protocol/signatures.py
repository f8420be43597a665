"""Signed documents: Ed25519 over LP(label) || LP(roster hash) || LP(canonical payload), and their transport form."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.bindings import crypto_core_ed25519_is_valid_point

from mcbn_protocol import limits
from mcbn_protocol.encoding import JsonObject, JsonValue, b64u_encode, canonical, lp, parse_canonical, parse_json
from mcbn_protocol.errors import MalformedError, SignatureInvalidError
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import RosterHash, check_name

KEY_BYTES = 32
SIGNATURE_BYTES = 64


class Label(StrEnum):
    """What a signature is for. No signature of one label can be shown as one of another."""

    PARTICIPANT = "mcbn/participant/v1"
    SHARE_COMMITMENT = "mcbn/share-commitment/v1"
    MANIFEST = "mcbn/manifest/v1"
    RELEASE = "mcbn/release/v1"
    REFUSAL = "mcbn/refusal/v1"
    AUDIT_HEAD = "mcbn/audit-head/v1"


@functools.lru_cache(
    maxsize=limits.PARTICIPANTS
)  # a network's keys are few, and judging one costs more than a signature
def check_public_key(raw: bytes) -> bytes:
    """Return the 32 bytes of an Ed25519 public key (RFC 8032 section 5.1.5) that is safe to verify with.

    Raises:
        MalformedError: Wrong length, not on the curve, not canonical, or outside of the prime-order subgroup
            (under a small-order key, one signature verifies for many messages).
    """
    if len(raw) != KEY_BYTES or not crypto_core_ed25519_is_valid_point(raw):
        raise MalformedError("not an Ed25519 public key of the prime-order subgroup")
    return raw


def signing_input(label: Label, roster_hash: RosterHash | None, payload: bytes) -> bytes:
    """Return the bytes that a signature covers: LP(label) || LP(roster hash) || LP(payload).

    Args:
        label: The purpose of the signature.
        roster_hash: 32 bytes, or None for a participant card, which is made before there is a roster.
        payload: The payload's RFC 8785 bytes.

    Raises:
        MalformedError: A roster hash with a participant card, or none with another document.
    """
    if (roster_hash is None) != (label is Label.PARTICIPANT):
        raise MalformedError("only a participant card is signed without a roster hash")
    return lp(label.value) + (b"" if roster_hash is None else lp(roster_hash)) + lp(payload)


@dataclass(frozen=True)
class Signature:
    """One participant's signature (64 bytes) in a signed document."""

    participant: str
    signature: bytes


@dataclass(frozen=True, init=False)
class Envelope:
    """A payload and its signatures, in transport form. Parsing one verifies nothing: call `verify` for each signer.

    Attributes:
        payload_bytes: The payload's canonical bytes: what is signed, and the only form in which it is kept.
        signatures: In the order of the document.
    """

    payload_bytes: bytes
    signatures: tuple[Signature, ...]

    def __init__(self, payload: JsonObject, signatures: Sequence[Signature]) -> None:
        object.__setattr__(self, "payload_bytes", canonical(payload))
        object.__setattr__(self, "signatures", tuple(signatures))

    def signed_by(self, *signatures: Signature) -> Self:
        """Return a document with the same payload and these signatures."""
        document = object.__new__(type(self))
        object.__setattr__(document, "payload_bytes", self.payload_bytes)
        object.__setattr__(document, "signatures", signatures)
        return document

    @property
    def payload(self) -> JsonObject:
        """The payload, read anew from its bytes: what is used is what was verified, whoever changed a copy."""
        return cast("JsonObject", parse_json(self.payload_bytes, limit=len(self.payload_bytes)))

    @classmethod
    def parse(cls, data: bytes, *, limit: int) -> Self:
        """Read a signed document from its canonical bytes.

        Raises:
            MalformedError: Not canonical JSON of this shape.
        """
        return cls.from_json(parse_canonical(data, limit=limit), "document")

    @classmethod
    def from_json(cls, value: object, where: str) -> Self:
        """Read a signed document that is a member of another JSON value."""
        with Fields(value, where) as fields:
            payload = fields.object("payload")
            items = fields.array("signatures", minimum=1, maximum=limits.PARTICIPANTS)
        return cls(payload, tuple(_signature(item, f"{where}.signatures") for item in items))

    def to_json(self) -> JsonObject:
        """Return the transport form as a JSON object."""
        return {"payload": self.payload, "signatures": self._signatures_json()}

    def to_bytes(self) -> bytes:
        """Return the transport form as canonical bytes: members in RFC 8785 order, around the payload as it is."""
        return b'{"payload":%b,"signatures":%b}' % (self.payload_bytes, canonical(self._signatures_json()))

    def _signatures_json(self) -> list[JsonValue]:
        return [{"participant": one.participant, "signature": b64u_encode(one.signature)} for one in self.signatures]

    def sole_signature(self, participant: str) -> bytes:
        """Return the signature of a document that exactly one participant signs.

        Raises:
            MalformedError: Signed by another participant, or by several.
        """
        if [item.participant for item in self.signatures] != [participant]:
            raise MalformedError(f"exactly one signature, by {participant}, is expected")
        return self.signatures[0].signature


def _signature(value: object, where: str) -> Signature:
    with Fields(value, where) as fields:
        return Signature(
            participant=fields.decoded("participant", check_name),
            signature=fields.base64url("signature", length=SIGNATURE_BYTES),
        )


def sign(
    private_key: Ed25519PrivateKey, participant: str, label: Label, roster_hash: RosterHash | None, payload: JsonObject
) -> Envelope:
    """Sign `payload` as `participant` and return the document with this one signature."""
    unsigned = Envelope(payload, ())
    signature = private_key.sign(signing_input(label, roster_hash, unsigned.payload_bytes))
    return unsigned.signed_by(Signature(participant, signature))


def verify(
    public_key: bytes,
    signature: bytes,
    *,
    label: Label,
    roster_hash: RosterHash | None,
    payload_bytes: bytes,
    participant: str,
    what: str,
) -> None:
    """Verify one Ed25519 signature (RFC 8032) of a document.

    Args:
        public_key: 32 bytes, from the roster (or, for a participant card, from the card itself).
        signature: 64 bytes.
        label: The purpose the document is taken for.
        roster_hash: 32 bytes, or None for a participant card.
        payload_bytes: The payload's RFC 8785 bytes.
        participant: The signer's name, for the error.
        what: What kind of document it is, for the error.

    Raises:
        SignatureInvalidError: The signature does not verify.
    """
    try:
        Ed25519PublicKey.from_public_bytes(check_public_key(public_key)).verify(
            signature, signing_input(label, roster_hash, payload_bytes)
        )
    except InvalidSignature as error:
        raise SignatureInvalidError(participant, what) from error


def join(envelopes: Sequence[Envelope]) -> Envelope:
    """Join documents with the same payload into one with all signatures, sorted by participant.

    Raises:
        MalformedError: No document, different payloads, or two signatures of one participant.
    """
    if not envelopes or any(item.payload_bytes != envelopes[0].payload_bytes for item in envelopes):
        raise MalformedError("signatures of different payloads cannot be joined")
    signatures = sorted((one for item in envelopes for one in item.signatures), key=lambda one: one.participant)
    if len({one.participant for one in signatures}) != len(signatures):
        raise MalformedError("a participant's signature is given twice")
    return envelopes[0].signed_by(*signatures)
