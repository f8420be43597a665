"""Sealing at rest: ChaCha20-Poly1305 (RFC 8439) under a random nonce, bound to what is sealed and whose it is."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from mcbn_broker.errors import KeystoreError
from mcbn_protocol.encoding import lp, u32be, u64be
from mcbn_protocol.identifiers import RosterHash
from mcbn_protocol.secret import Secret

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_MAGIC: Final = b"mcbn-sealed-v1\n"
_NONCE_AT: Final = len(_MAGIC)
_TEXT_AT: Final = _NONCE_AT + _NONCE_BYTES


class SealedKind(StrEnum):
    """What is sealed. A file of one kind does not open as another."""

    RELEASE_KEY = "mcbn/at-rest/release-key/v1"
    CHALLENGE_KEY = "mcbn/at-rest/challenge-key/v1"
    EPOCH_KEY = "mcbn/at-rest/epoch-key/v1"
    SHARE = "mcbn/at-rest/share/v1"


@dataclass(frozen=True)
class SealedFor:
    """What a sealed value is bound to.

    Attributes:
        kind: What it is.
        roster_hash: The network that it belongs to, or None for what is older than the roster.
        participant: Whose it is.
        epoch: Its epoch, 0 for what belongs to none.
        index: The participant's share index, 0 for what is no share.
    """

    kind: SealedKind
    roster_hash: RosterHash | None
    participant: str
    epoch: int = 0
    index: int = 0

    @property
    def associated_data(self) -> bytes:
        """LP(kind) || LP(roster hash, or nothing) || LP(participant) || u64be(epoch) || u32be(index)."""
        whose = lp(self.roster_hash or b"") + lp(self.participant)
        return lp(self.kind.value) + whose + u64be(self.epoch) + u32be(self.index)


def seal(key: Secret, purpose: SealedFor, plaintext: Secret, random: Callable[[int], bytes]) -> bytes:
    """Return a 15-byte magic || 12-byte nonce || ciphertext and tag.

    Args:
        key: 32 bytes.
        purpose: What the result is bound to.
        plaintext: At most a few keys long.
        random: Gives that many random bytes.
    """
    nonce = random(_NONCE_BYTES)
    return _MAGIC + nonce + ChaCha20Poly1305(key.reveal()).encrypt(nonce, plaintext.reveal(), purpose.associated_data)


def unseal(key: Secret, purpose: SealedFor, sealed: bytes) -> bytes:
    """Return the plaintext of what `seal` made for the same purpose.

    Raises:
        KeystoreError: Another key, another purpose, or altered.
    """
    header, nonce, ciphertext = sealed[:_NONCE_AT], sealed[_NONCE_AT:_TEXT_AT], sealed[_TEXT_AT:]
    if header != _MAGIC:
        raise _does_not_open(purpose)
    try:
        return ChaCha20Poly1305(key.reveal()).decrypt(nonce, ciphertext, purpose.associated_data)
    except (InvalidTag, ValueError) as error:
        raise _does_not_open(purpose) from error


def _does_not_open(purpose: SealedFor) -> KeystoreError:
    return KeystoreError(
        f"{purpose.kind.value} of {purpose.participant} does not open: it was sealed under another key-encryption "
        "key, or altered; give the right --kek-file, or restore the file from a backup"
    )
