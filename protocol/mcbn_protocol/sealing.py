"""Seals a share to a key inside the TEE, with HPKE (RFC 9180) over X25519 or the ML-KEM-768 + X25519 hybrid."""

import hashlib
from enum import StrEnum
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from mcbn_protocol.encoding import lp, u32be, u64be
from mcbn_protocol.errors import SealError
from mcbn_protocol.limits import HASH_BYTES, SHARE_BYTES
from mcbn_protocol.shares import Share

LABEL: Final = "mcbn/seal/v1"
SEED_BYTES: Final = 32
_X25519_BYTES: Final = 32
_MLKEM768_PUBLIC_BYTES: Final = 1184
_MLKEM_SEED_BYTES: Final = 64


class Kem(StrEnum):
    """The key encapsulation mechanisms, by their names in messages."""

    MLKEM768_X25519 = "mlkem768-x25519"
    X25519 = "x25519"


_SUITES: Final = {
    Kem.X25519: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305),
    Kem.MLKEM768_X25519: Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305),
}

PUBLIC_KEY_BYTES: Final = {Kem.X25519: _X25519_BYTES, Kem.MLKEM768_X25519: _MLKEM768_PUBLIC_BYTES + _X25519_BYTES}
"""Length of a recipient key in bytes; the hybrid's is the ML-KEM public key || the X25519 public key."""

SEALED_BYTES: Final = {Kem.X25519: 80, Kem.MLKEM768_X25519: 1168}
"""Length of a sealed share in bytes: enc || ciphertext and tag."""


def seal_info(binding: bytes, epoch: int, share_index: int) -> bytes:
    """Return HPKE's `info`: LP(label) || LP(binding) || u64be(epoch) || u32be(share index).

    Args:
        binding: The 32 bytes of the binding's hash, which already commits to roster, participant, role, manifest,
            challenge, KEM and recipient key.
        epoch: The manifest's epoch.
        share_index: 1-based, in byte order of the roster's names.
    """
    if len(binding) != HASH_BYTES:
        raise SealError(f"a binding has {HASH_BYTES} bytes, not {len(binding)}")
    return lp(LABEL) + lp(binding) + u64be(epoch) + u32be(share_index)


def _load_public(kem: Kem, raw: bytes) -> X25519PublicKey | MLKEM768X25519PublicKey:
    if len(raw) != PUBLIC_KEY_BYTES[kem]:
        raise SealError(f"a {kem} recipient key has {PUBLIC_KEY_BYTES[kem]} bytes, not {len(raw)}")
    x25519 = X25519PublicKey.from_public_bytes(raw[-_X25519_BYTES:])
    if kem is Kem.X25519:
        return x25519
    try:
        mlkem = MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM768_PUBLIC_BYTES])
    except ValueError as error:
        raise SealError("the recipient key's ML-KEM-768 part is not a valid encapsulation key") from error
    return MLKEM768X25519PublicKey(mlkem, x25519)


def seal(kem: Kem, recipient_key: bytes, *, info: bytes, share: Share) -> bytes:
    """Seal a share to a recipient key.

    Args:
        kem: The KEM of the recipient key.
        recipient_key: `PUBLIC_KEY_BYTES[kem]` bytes.
        info: What `seal_info` returned.
        share: 32 bytes.

    Returns:
        enc || ciphertext, `SEALED_BYTES[kem]` bytes.

    Raises:
        SealError: The recipient key is malformed or of small order.
    """
    public_key = _load_public(kem, recipient_key)
    try:
        return _SUITES[kem].encrypt(share.reveal(), public_key, info=info)
    except (ValueError, TypeError) as error:
        raise SealError(f"nothing can be sealed to this {kem} recipient key") from error


class RecipientKey:
    """A workload's fresh key pair for one release, made from a seed of 32 random bytes."""

    __slots__ = ("_private", "kem", "public_bytes")

    def __init__(self, kem: Kem, private: X25519PrivateKey | MLKEM768X25519PrivateKey, public_bytes: bytes) -> None:
        self.kem = kem
        self.public_bytes = public_bytes
        self._private = private

    @classmethod
    def from_seed(cls, kem: Kem, seed: bytes) -> Self:
        """Make the key pair of a seed.

        X25519: the seed is the scalar (RFC 7748 section 5 clamps it). Hybrid: SHAKE-256 of the seed gives 96 bytes, the
        ML-KEM seed d || z (FIPS 203 section 7.1) followed by the X25519 scalar.

        Args:
            kem: The KEM.
            seed: 32 bytes from the operating system's generator, used once.

        Raises:
            SealError: A seed of another length.
        """
        if len(seed) != SEED_BYTES:
            raise SealError(f"a recipient key's seed has {SEED_BYTES} bytes, not {len(seed)}")
        if kem is Kem.X25519:
            x25519 = X25519PrivateKey.from_private_bytes(seed)
            return cls(kem, x25519, x25519.public_key().public_bytes_raw())
        expanded = hashlib.shake_256(seed).digest(_MLKEM_SEED_BYTES + _X25519_BYTES)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES])
        x25519 = X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_BYTES:])
        public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        return cls(kem, MLKEM768X25519PrivateKey(mlkem, x25519), public)

    def open(self, sealed: bytes, *, info: bytes) -> Share:
        """Open a sealed share.

        Args:
            sealed: `SEALED_BYTES[kem]` bytes.
            info: What `seal_info` returned for the same binding, epoch and share index.

        Raises:
            SealError: Sealed to another key or in another context, altered, or of another length.
        """
        if len(sealed) != SEALED_BYTES[self.kem]:
            raise SealError(f"a share sealed with {self.kem} has {SEALED_BYTES[self.kem]} bytes, not {len(sealed)}")
        try:
            plaintext = _SUITES[self.kem].decrypt(sealed, self._private, info=info)
        except (InvalidTag, ValueError, TypeError) as error:
            raise SealError(
                "the sealed share does not open: it was sealed to another key or for another use"
            ) from error
        if len(plaintext) != SHARE_BYTES:
            raise SealError(f"the sealed share holds {len(plaintext)} bytes, not {SHARE_BYTES}")
        return Share(plaintext)
