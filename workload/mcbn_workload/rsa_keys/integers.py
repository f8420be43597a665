"""Arithmetic on big integers: by gmpy2 where it is installed (extra `speedups`), else by Python's own; same results.

Neither is constant-time. A key is derived once for each epoch, inside the TEE.
"""

import math
from typing import Any, Final

try:
    import gmpy2 as _gmpy2
except ImportError:
    _gmpy2 = None

gmpy2: Final[Any] = _gmpy2

_BASES: Final = (2, 3, 5, 7, 11, 13, 17, 19)
_SIEVE_BELOW: Final = 8192
_PROBABLE_PRIME_ROUNDS: Final = 32  # gmpy2: Baillie-PSW and eight further Miller-Rabin rounds


def _primes_below(bound: int) -> list[int]:
    marks = bytearray([1]) * bound
    marks[:2] = b"\0\0"
    for number in range(2, math.isqrt(bound) + 1):
        if marks[number]:
            marks[number * number :: number] = bytes(len(range(number * number, bound, number)))
    return [number for number in range(bound) if marks[number]]


SMALL_PRIMES: Final = tuple(_primes_below(_SIEVE_BELOW))
_PRIMORIAL: Final = math.prod(SMALL_PRIMES)


def power(base: int, exponent: int, modulus: int) -> int:
    """Return base ** exponent mod modulus."""
    return int(gmpy2.powmod(base, exponent, modulus)) if gmpy2 else pow(base, exponent, modulus)


def is_prime(number: int) -> bool:
    """Say whether a number of at least 256 bits, drawn at random, is prime.

    Miller-Rabin with eight bases is more than FIPS 186-5 table B.1 asks of random candidates of 1024 bits and more (an
    error below 2**-100). The bases are fixed, so that both ends of a channel come to the same answer in any case.
    """
    if gmpy2:
        return bool(gmpy2.is_prime(number, _PROBABLE_PRIME_ROUNDS))
    return math.gcd(number, _PRIMORIAL) == 1 and all(_passes(number, base) for base in _BASES)


def _passes(number: int, base: int) -> bool:
    """One round of Miller-Rabin (FIPS 186-5 appendix B.3.1)."""
    odd = number - 1
    twos = (odd & -odd).bit_length() - 1
    value = pow(base, odd >> twos, number)
    if value in (1, number - 1):
        return True
    for _ in range(twos - 1):
        value = value * value % number
        if value == number - 1:
            return True
    return False


def is_small_prime(number: int) -> bool:
    """Say whether a number below 2**33 is prime, by trial division."""
    if number < _SIEVE_BELOW:
        return number in SMALL_PRIMES
    root = math.isqrt(number)
    return all(number % prime for prime in SMALL_PRIMES) and all(
        number % divisor for divisor in range(_SIEVE_BELOW + 1, root + 1, 2)
    )
