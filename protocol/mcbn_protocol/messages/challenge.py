"""Asking for a challenge: which role under which manifest, and the answer."""

from dataclasses import dataclass
from typing import Self

from mcbn_protocol import limits
from mcbn_protocol.binding import CHALLENGE
from mcbn_protocol.encoding import canonical, parse_json
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import ManifestHash, Role


@dataclass(frozen=True)
class ChallengeRequest:
    """`POST /v1/challenges`: which role, under which manifest."""

    role: Role
    manifest_hash: ManifestHash

    def to_bytes(self) -> bytes:
        """Return the request's body."""
        return canonical({"role": self.role.value, "manifest_hash": self.manifest_hash.hex()})

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a request's body (at most 64 KiB).

        Raises:
            MalformedError: Not this message.
        """
        with Fields(parse_json(body, limit=limits.REQUEST_BYTES), "request") as fields:
            return cls(role=fields.choice("role", Role), manifest_hash=ManifestHash(fields.hash("manifest_hash")))


@dataclass(frozen=True)
class Challenge:
    """The answer to a challenge request: 55 base64url characters, and when they expire (Unix seconds)."""

    challenge: str
    expires_at: int

    def to_bytes(self) -> bytes:
        """Return the answer's body."""
        return canonical({"challenge": self.challenge, "expires_at": self.expires_at})

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read an answer's body; a challenge of any other shape is refused.

        Raises:
            MalformedError: Not this message.
        """
        with Fields(parse_json(body, limit=limits.RESPONSE_BYTES), "answer") as fields:
            return cls(
                challenge=fields.text("challenge", pattern=CHALLENGE),
                expires_at=fields.integer("expires_at", minimum=0, maximum=limits.TIME_MAX),
            )
