"""Deterministic RSA keys: both ends derive the same key from the same seed, by one of four published schemes."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mcbn_protocol.encoding import b64u_encode, u32be
from mcbn_protocol.rsa_schemes import RsaScheme
from mcbn_protocol.secret import Secret
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.rsa_keys.det_keygen import det_keygen
from mcbn_workload.rsa_keys.errors import RsaKeyError
from mcbn_workload.rsa_keys.go_readers import go_generate_key, hash_drbg_reader, sha512_reader
from mcbn_workload.rsa_keys.numbers import RsaNumbers
from mcbn_workload.rsa_keys.provable_primes import gnutls_provable

SEED_BYTES: Final = 32
_SEEDS_MAX: Final = 16

_MAKERS: Final[Mapping[RsaScheme, Callable[[bytes, int], RsaNumbers]]] = {
    RsaScheme.C2SP_DET_KEYGEN: det_keygen,
    RsaScheme.GNUTLS_PROVABLE: gnutls_provable,
    RsaScheme.GO_SHA512_READER: lambda seed, bits: go_generate_key(sha512_reader(_text(seed)), bits),
    RsaScheme.GO_HASH_DRBG: lambda seed, bits: go_generate_key(hash_drbg_reader(_text(seed)), bits),
}


def derive_rsa_key(scheme: RsaScheme, seed: Secret, bits: int) -> RSAPrivateKey:
    """Return the RSA key of a seed.

    Args:
        scheme: How. The two Go schemes take the seed's base64url text, as the published programs did.
        seed: 32 bytes.
        bits: Of the modulus; one of `scheme.sizes`.

    Raises:
        ConfigurationError: The scheme has no keys of this size, or the seed another length.
        RsaKeyError: None of the seeds that follow from this one gives a key.
    """
    if bits not in scheme.sizes:
        sizes = ", ".join(map(str, scheme.sizes))
        raise ConfigurationError(f"{scheme} makes RSA keys of {sizes} bits, not {bits}")
    if len(seed.reveal()) != SEED_BYTES:
        raise ConfigurationError(f"an RSA key is derived from {SEED_BYTES} bytes")
    for attempt in range(_SEEDS_MAX):
        try:
            return _MAKERS[scheme](_nth(seed.reveal(), attempt), bits).private_key()
        except RsaKeyError:
            continue
    raise RsaKeyError(f"{_SEEDS_MAX} seeds gave no key by {scheme}: open another epoch")


def _nth(seed: bytes, attempt: int) -> bytes:
    """The seed itself, then SHA-256(seed || u32be(attempt)): some seeds give no provable primes."""
    return hashlib.sha256(seed + u32be(attempt)).digest() if attempt else seed


def _text(seed: bytes) -> bytes:
    return b64u_encode(seed).encode("ascii")


def spki_sha256(key: RSAPublicKey) -> bytes:
    """Return SHA-256 (32 bytes) of the key's SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7), its public name here."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


__all__ = ["SEED_BYTES", "RsaKeyError", "derive_rsa_key", "spki_sha256"]
