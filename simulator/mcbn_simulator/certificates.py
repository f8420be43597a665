"""The certificates under PKI tokens: a root, an intermediate and leaves, made anew for each run as its keys are.

The leaf has what the real service's leaves have: basic constraints that say it is no authority, and nothing else that
restricts it (no key usage, no subject alternative name).
"""

import base64
import dataclasses
import datetime as dt
import functools
from collections.abc import Sequence
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

_RSA_BITS: Final = 2048
_RSA_EXPONENT: Final = 65537
_LIVES_BEFORE: Final = dt.timedelta(days=1)
_LIVES_AFTER: Final = dt.timedelta(days=365)


@dataclasses.dataclass(frozen=True)
class Authority:
    """A certificate and its key.

    Attributes:
        certificate: Of a root or an intermediate.
        key: Its private key; tests may sign what no service would.
    """

    certificate: x509.Certificate
    key: RSAPrivateKey = dataclasses.field(repr=False)

    @classmethod
    def root(cls, now: float) -> Self:
        """A self-signed root."""
        key = generate_private_key(_RSA_EXPONENT, _RSA_BITS)
        name = _name("Simulated Confidential Space Root")
        return cls(_issued(name, key, name, key, now, path_length=None), key)

    def intermediate(self, now: float) -> "Authority":
        """An authority that may issue leaves only."""
        key = generate_private_key(_RSA_EXPONENT, _RSA_BITS)
        name = _name("Simulated Confidential Space Intermediate")
        return Authority(_issued(name, key, self.certificate.subject, self.key, now, path_length=0), key)

    def leaf(self, key: RSAPrivateKey, now: float) -> x509.Certificate:
        """A leaf for a token signing key."""
        return _issued(_name("simulated-signer"), key, self.certificate.subject, self.key, now, is_leaf=True)


class TokenCertificates:
    """The certificates of one issuer, made when the first is asked for.

    Args:
        now: The issuer's time, Unix seconds; certificates hold from a day before it for a year.
    """

    def __init__(self, now: float) -> None:
        self._now = now

    @functools.cached_property
    def root(self) -> Authority:
        """The root that participants pin."""
        return Authority.root(self._now)

    @functools.cached_property
    def intermediate(self) -> Authority:
        """What issues the leaves."""
        return self.root.intermediate(self._now)

    def chain(self, key: RSAPrivateKey) -> list[str]:
        """The value of `x5c` for a signing key: leaf, intermediate and root (RFC 7515 section 4.1.6)."""
        leaf = self.intermediate.leaf(key, self._now)
        return x5c([leaf, self.intermediate.certificate, self.root.certificate])


def x5c(certificates: Sequence[x509.Certificate]) -> list[str]:
    """Certificates as a token's header has them: standard base64 of DER."""
    return [base64.b64encode(one.public_bytes(Encoding.DER)).decode("ascii") for one in certificates]


def _issued(
    subject: x509.Name,
    key: RSAPrivateKey,
    issuer: x509.Name,
    issuer_key: RSAPrivateKey,
    now: float,
    *,
    is_leaf: bool = False,
    path_length: int | None = None,
) -> x509.Certificate:
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - _LIVES_BEFORE)
        .not_valid_after(moment + _LIVES_AFTER)
        .add_extension(x509.BasicConstraints(ca=not is_leaf, path_length=path_length), critical=True)
        .sign(issuer_key, SHA256())
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
