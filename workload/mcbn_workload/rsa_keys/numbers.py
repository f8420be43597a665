"""Turns two primes into an RSA key."""

import math
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

PUBLIC_EXPONENT: Final = 65537


@dataclass(frozen=True, repr=False)
class RsaNumbers:
    """The primes of a key and its private exponent, in the order and form that its scheme defines."""

    p: int
    q: int
    d: int

    def private_key(self) -> rsa.RSAPrivateKey:
        """Return the key; its consistency is checked."""
        return rsa.RSAPrivateNumbers(
            p=self.p,
            q=self.q,
            d=self.d,
            dmp1=self.d % (self.p - 1),
            dmq1=self.d % (self.q - 1),
            iqmp=pow(self.q, -1, self.p),
            public_numbers=rsa.RSAPublicNumbers(PUBLIC_EXPONENT, self.p * self.q),
        ).private_key()


def exponent_modulo_lcm(p: int, q: int) -> int | None:
    """Return 65537**-1 modulo lcm(p - 1, q - 1) (FIPS 186-5 appendix A.1.1); None where there is no inverse."""
    order = math.lcm(p - 1, q - 1)
    return pow(PUBLIC_EXPONENT, -1, order) if math.gcd(PUBLIC_EXPONENT, order) == 1 else None
