"""RSA keys that published Go programs made by giving `rsa.GenerateKey` a reader of their own. Frozen; never a default.

They hold for Go 1.19 to 1.23 where the library's random extra byte changed nothing. Newer Go ignores such readers.
"""

import hashlib
from collections.abc import Callable
from typing import Final

from mcbn_protocol.encoding import u32be
from mcbn_workload.rsa_keys.integers import is_prime
from mcbn_workload.rsa_keys.numbers import PUBLIC_EXPONENT, RsaNumbers

Reader = Callable[[int], bytes]
"""Gives as many bytes as asked for, and moves on."""

_STATE_BITS: Final = 440  # NIST SP 800-90A table 2: seedlen of Hash_DRBG with SHA-256
_STATE_BYTES: Final = _STATE_BITS // 8


def sha512_reader(seed: bytes) -> Reader:
    """Return the oldest example's reader: cycles of SHA-512, of which one half is state and the other output."""
    state = seed

    def read(size: int) -> bytes:
        nonlocal state
        output = b""
        while len(output) < size:
            digest = hashlib.sha512(state).digest()
            state, output = digest[:32], output + digest[32:]
        return output[:size]

    return read


def hash_drbg_reader(seed: bytes) -> Reader:
    """Return Hash_DRBG with SHA-256 (NIST SP 800-90A section 10.1.1), instantiated with entropy alone."""
    value = int.from_bytes(_derivation(seed), "big")
    constant = int.from_bytes(_derivation(b"\0" + _state(value)), "big")
    counter = 1

    def read(size: int) -> bytes:
        nonlocal value, counter
        blocks = [hashlib.sha256(_state(value + place)).digest() for place in range(-(-size // 32))]
        tag = int.from_bytes(hashlib.sha256(b"\3" + _state(value)).digest(), "big")
        value = (value + tag + constant + counter) % (1 << _STATE_BITS)
        counter += 1
        return b"".join(blocks)[:size]

    return read


def _state(value: int) -> bytes:
    return (value % (1 << _STATE_BITS)).to_bytes(_STATE_BYTES, "big")


def _derivation(data: bytes) -> bytes:
    """Hash_df (NIST SP 800-90A section 10.3.1)."""
    blocks = [hashlib.sha256(bytes([counter]) + u32be(_STATE_BITS) + data).digest() for counter in (1, 2)]
    return b"".join(blocks)[:_STATE_BYTES]


def go_generate_key(read: Reader, bits: int) -> RsaNumbers:
    """Return the key that Go's `rsa.GenerateKey` of those versions finds with a reader."""
    while True:
        p, q = (_prime(read, bits // 2) for _ in range(2))
        order = (p - 1) * (q - 1)
        if p != q and (p * q).bit_length() == bits and order % PUBLIC_EXPONENT:
            return RsaNumbers(p, q, pow(PUBLIC_EXPONENT, -1, order))


def _prime(read: Reader, bits: int) -> int:
    while True:
        candidate = bytearray(read(bits // 8))
        candidate[0] |= 0xC0
        candidate[-1] |= 1
        number = int.from_bytes(candidate, "big")
        if is_prime(number):
            return number
