"""Challenges: stateless, so that any process with the key and the database can check one that another issued."""

import functools
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mcbn_broker.errors import Refused
from mcbn_broker.keystore.home import ChallengeKey
from mcbn_protocol.encoding import b64u_decode, b64u_encode, lp, u64be
from mcbn_protocol.errors import MalformedError
from mcbn_protocol.identifiers import ManifestHash, Role, RosterHash, sha256
from mcbn_protocol.limits import CHALLENGE_BYTES
from mcbn_protocol.messages import Challenge
from mcbn_protocol.refusals import REFUSAL_CODES

LABEL: Final = "mcbn/challenge/v1"
_VERSION: Final = b"\x01"
_RANDOM_BYTES: Final = 16
_MAC_BYTES: Final = 16
_CONTEXTS_KEPT: Final = 64


@dataclass(frozen=True)
class ChallengeContext:
    """What a challenge is good for. The incarnation makes every challenge of a restored database worthless."""

    incarnation: bytes
    roster_hash: RosterHash
    participant: str
    role: Role
    manifest_hash: ManifestHash


@dataclass(frozen=True)
class IssuedChallenge:
    """A challenge that this broker issued for this context: its text, when it expires, and its hash (32 bytes)."""

    text: str
    expires_at: int
    hash: bytes


class Challenges:
    """Issues challenges, and recognises its own."""

    def __init__(self, key: ChallengeKey, random: Callable[[int], bytes]) -> None:
        self._key = key
        self._random = random

    def issue(self, context: ChallengeContext, *, expires_at: int) -> Challenge:
        """Return version || u64be(expires) || 16 random bytes || MAC, in base64url."""
        body = _VERSION + u64be(expires_at) + self._random(_RANDOM_BYTES)
        return Challenge(b64u_encode(body + self._mac(body, context)), expires_at)

    def recognise(self, unverified_challenge: str, context: ChallengeContext) -> IssuedChallenge:
        """Return the challenge if this broker issued it for this context. Whether it has expired is the caller's.

        Raises:
            Refused: `challenge_not_issued`.
        """
        try:
            raw = b64u_decode(unverified_challenge, length=CHALLENGE_BYTES)
        except MalformedError as error:
            raise _not_issued("another shape") from error
        body, unverified_mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if not hmac.compare_digest(unverified_mac, self._mac(body, context)):
            raise _not_issued("its MAC is not ours for this incarnation, role and manifest")
        expires_at = int.from_bytes(body[len(_VERSION) : -_RANDOM_BYTES], "big")
        return IssuedChallenge(unverified_challenge, expires_at, sha256(raw))

    def _mac(self, body: bytes, context: ChallengeContext) -> bytes:
        return hmac.digest(self._key.reveal(), lp(LABEL) + body + _bound_to(context), hashlib.sha256)[:_MAC_BYTES]


@functools.lru_cache(maxsize=_CONTEXTS_KEPT)
def _bound_to(context: ChallengeContext) -> bytes:
    """The part of the MAC's input that is the same for all challenges of one context."""
    role, manifest_hash = context.role.value, context.manifest_hash
    parts = (context.incarnation, context.roster_hash, context.participant, role, manifest_hash)
    return b"".join(lp(part) for part in parts)


def _not_issued(detail: str) -> Refused:
    return Refused(REFUSAL_CODES["challenge_not_issued"], detail=f"challenge: {detail}")
