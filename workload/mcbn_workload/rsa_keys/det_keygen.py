"""RSA keys as c2sp.org/det-keygen defines them, with the candidates' low three bits set (its revision of 12/2025).

HMAC_DRBG of NIST SP 800-90A section 10.1.2 with SHA-256, without reseeding, and primes by FIPS 186-5 appendix A.1.3.
"""

import hashlib
import hmac
import math
from typing import Final

from mcbn_workload.rsa_keys.integers import is_prime
from mcbn_workload.rsa_keys.numbers import RsaNumbers, exponent_modulo_lcm

_PERSONALISATION: Final = b"det RSA key gen"
_TOO_MUCH_IN_COMMON: Final = 2**32


class _HmacDrbg:
    """The generator. Its state is updated before each draw but the first."""

    def __init__(self, seed: bytes, personalisation: bytes) -> None:
        self._key, self._value, self._drawn = bytes(32), b"\1" * 32, False
        for separator in (b"\0", b"\1"):
            self._update(separator + seed + personalisation)

    def _hmac(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, hashlib.sha256)

    def _update(self, data: bytes) -> None:
        self._key = self._hmac(self._value + data)
        self._value = self._hmac(self._value)

    def draw(self, size: int) -> bytearray:
        """Return `size` bytes."""
        if self._drawn:
            self._update(b"\0")
        self._drawn = True
        output = bytearray()
        while len(output) < size:
            self._value = self._hmac(self._value)
            output += self._value
        return output[:size]


def det_keygen(seed: bytes, bits: int) -> RsaNumbers:
    """Return the key of a seed.

    Args:
        seed: At least 16 bytes; 32 here.
        bits: Of the modulus: at least 2048, a multiple of 16.
    """
    generator = _HmacDrbg(seed, _PERSONALISATION + bits.to_bytes(2, "big"))
    while True:
        p, q = (_prime(generator, bits // 2) for _ in range(2))
        if math.gcd(p - 1, q - 1) >= _TOO_MUCH_IN_COMMON:
            continue
        d = exponent_modulo_lcm(p, q)
        if d is not None and d > 2 ** (bits // 2):
            return RsaNumbers(p, q, d)


def _prime(generator: _HmacDrbg, bits: int) -> int:
    while True:
        candidate = generator.draw(bits // 8)
        candidate[0] |= 0xC0
        candidate[-1] |= 7
        number = int.from_bytes(candidate, "big")
        if is_prime(number):
            return number
