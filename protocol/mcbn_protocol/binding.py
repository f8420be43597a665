"""The binding: one hash that ties a challenge, participant, role, manifest and recipient key to a token's nonce."""

import functools
import re
from typing import Final

from mcbn_protocol.encoding import b64u_encode, lp
from mcbn_protocol.errors import MalformedError
from mcbn_protocol.identifiers import ManifestHash, Role, RosterHash, sha256
from mcbn_protocol.limits import CHALLENGE_CHARS
from mcbn_protocol.sealing import PUBLIC_KEY_BYTES, Kem

LABEL: Final = "mcbn/binding/v1"
AUDIENCE_PREFIX: Final = "mcbn:v1"
_AGREED_KEPT: Final = 64
CHALLENGE: Final = re.compile(rf"[A-Za-z0-9_-]{{{CHALLENGE_CHARS - 1}}}[AEIMQUYcgkosw048]")
"""55 base64url characters; the last carries 4 bits of 41 bytes, so that no challenge has a second spelling."""


def audience(roster_hash: RosterHash, participant: str) -> str:
    """Return the token audience of one participant's broker: `mcbn:v1:<roster hash, hex>:<participant>`.

    Both sides compute it and nobody sends it, so a token for one participant is useless at another.
    """
    return f"{AUDIENCE_PREFIX}:{roster_hash.hex()}:{participant}"


def binding_hash(
    *,
    roster_hash: RosterHash,
    participant: str,
    role: Role,
    manifest_hash: ManifestHash,
    challenge: str,
    kem: Kem,
    recipient_key: bytes,
) -> bytes:
    """Return the binding's 32 bytes: SHA-256 over the length-prefixed label and arguments, in this order.

    Args:
        roster_hash: 32 bytes.
        participant: The broker's name.
        role: The role that the workload asks for.
        manifest_hash: 32 bytes.
        challenge: The broker's challenge, 55 base64url characters; hashed as ASCII.
        kem: The recipient key's KEM; its name is hashed as ASCII.
        recipient_key: `PUBLIC_KEY_BYTES[kem]` bytes.

    Raises:
        MalformedError: A challenge or recipient key of another shape.
    """
    if not CHALLENGE.fullmatch(challenge):
        raise MalformedError(f"a challenge has {CHALLENGE_CHARS} base64url characters")
    if len(recipient_key) != PUBLIC_KEY_BYTES[kem]:
        raise MalformedError(f"a {kem} recipient key has {PUBLIC_KEY_BYTES[kem]} bytes, not {len(recipient_key)}")
    agreed = _agreed(roster_hash, participant, role, manifest_hash)
    return sha256(agreed + lp(challenge) + lp(kem.value) + lp(recipient_key))


@functools.lru_cache(maxsize=_AGREED_KEPT)
def _agreed(roster_hash: RosterHash, participant: str, role: Role, manifest_hash: ManifestHash) -> bytes:
    """The part of the hash's input that is the same for all requests under one manifest."""
    return b"".join(lp(part) for part in (LABEL, roster_hash, participant, role.value, manifest_hash))


def nonces(challenge: str, binding: bytes) -> tuple[str, str]:
    """Return the two nonces that a token must carry, and no others: the challenge and the binding in base64url."""
    return challenge, b64u_encode(binding)
