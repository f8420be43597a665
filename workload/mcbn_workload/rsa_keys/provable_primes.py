"""RSA keys as `certtool --provable --seed` makes them: provable primes by Shawe and Taylor's method with SHA-384.

FIPS 186-4 appendices B.3.2.2 (the pair), C.10 (the primes, without auxiliary ones), C.6 (the primes below them). GnuTLS
treats the seed as an integer of fixed length, and does not draw for candidates that cannot serve the exponent.
"""

import hashlib
import math
from typing import Final

from mcbn_workload.rsa_keys.errors import RsaKeyError
from mcbn_workload.rsa_keys.integers import is_small_prime, power
from mcbn_workload.rsa_keys.numbers import PUBLIC_EXPONENT, RsaNumbers, exponent_modulo_lcm

_DIGEST_BITS: Final = 384
_SMALL_BITS: Final = 33
_APART_BITS: Final = 100


class _Seed:
    """A seed that counts up as digests are drawn from it."""

    def __init__(self, seed: bytes) -> None:
        self._size = len(seed)
        self._value = int.from_bytes(seed, "big")

    def digest(self) -> int:
        """Return SHA-384 of the seed as an integer, and count up."""
        data = (self._value % (1 << 8 * self._size)).to_bytes(self._size, "big")
        self._value += 1
        return int.from_bytes(hashlib.sha384(data).digest(), "big")

    def draw(self, bits: int) -> int:
        """Return as many digests as hold `bits` bits, the first one lowest."""
        return sum(self.digest() << _DIGEST_BITS * place for place in range(-(-bits // _DIGEST_BITS)))


def gnutls_provable(seed: bytes, bits: int) -> RsaNumbers:
    """Return the key of a seed.

    Args:
        seed: 32 bytes.
        bits: Of the modulus: 2048, 3072 or 4096.

    Raises:
        RsaKeyError: This seed gives no key, as about one in ten thousand does not.
    """
    state, half = _Seed(seed), bits // 2
    p = _rsa_prime(state, half)
    while True:
        q = _rsa_prime(state, half)
        if abs(p - q) > 1 << (half - _APART_BITS):
            break
    d = exponent_modulo_lcm(p, q)
    if d is None:
        raise RsaKeyError("65537 has no inverse for the primes of this seed")
    return RsaNumbers(p, q, d)


def _rsa_prime(seed: _Seed, bits: int) -> int:
    """FIPS 186-4 appendix C.10 with p1 = p2 = 1."""
    p0 = _provable_prime(seed, 1 + -(-bits // 2))
    lowest = math.isqrt(1 << (2 * bits - 1))
    start = lowest + seed.draw(bits) % ((1 << bits) - lowest)
    t = -(-(2 * p0 + start) // (2 * p0))
    for _ in range(5 * bits):
        candidate = 2 * (t - 1) * p0 + 1
        if candidate >> bits:
            t = -(-(2 * p0 + lowest) // (2 * p0))
            candidate = 2 * (t - 1) * p0 + 1
        if math.gcd(candidate - 1, PUBLIC_EXPONENT) == 1 and _proved(seed, candidate, bits, p0, t - 1):
            return candidate
        t += 1
    raise RsaKeyError("no prime was found from this seed")


def _provable_prime(seed: _Seed, bits: int) -> int:
    """FIPS 186-4 appendix C.6."""
    if bits < _SMALL_BITS:
        return _small_prime(seed, bits)
    c0 = _provable_prime(seed, 1 + -(-bits // 2))
    top = 1 << (bits - 1)
    t = -(-(top + seed.draw(bits) % top) // (2 * c0))
    for _ in range(4 * bits):
        candidate = 2 * t * c0 + 1
        if candidate >> bits:
            t = -(-top // (2 * c0))
            candidate = 2 * t * c0 + 1
        if _proved(seed, candidate, bits, c0, t):
            return candidate
        t += 1
    raise RsaKeyError("no prime was found from this seed")


def _small_prime(seed: _Seed, bits: int) -> int:
    top = 1 << (bits - 1)
    for _ in range(4 * bits):
        candidate = (seed.digest() ^ seed.digest()) % top | top | 1
        if is_small_prime(candidate):
            return candidate
    raise RsaKeyError("no prime was found from this seed")


def _proved(seed: _Seed, candidate: int, bits: int, factor: int, multiple: int) -> bool:
    """Pocklington's proof for candidate = 2 * multiple * factor + 1 with a known prime factor."""
    base = 2 + seed.draw(bits) % (candidate - 3)
    z = power(base, 2 * multiple, candidate)
    return math.gcd(z - 1, candidate) == 1 and power(z, factor, candidate) == 1
