"""The smoke test's own certificate authority, for the brokers and for the reports; its images trust it."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from mcbn_simulator.compose.tls import TlsAuthority

_HEADER_BYTES: Final = 2  # tag and length of a SEQUENCE of less than 128 bytes
_SHORT: Final = 0x80


@dataclass(frozen=True)
class Served:
    """The files with which something is served over TLS."""

    certificate: Path
    key: Path


class Authority:
    """Certificates for one host, at which the VMs find this machine.

    Attributes:
        certificate: The authority's own, PEM.

    Args:
        host: A name or an address.
    """

    def __init__(self, host: str) -> None:
        self._authority = TlsAuthority(time.time())
        self._host = host
        self.certificate = self._authority.certificate

    def serve(self, folder: Path) -> Served:
        """Write a new certificate and its key into a folder."""
        served = self._authority.serve(self._host)
        files = Served(folder / "tls.pem", folder / "tls.key")
        files.certificate.write_bytes(served.certificate)
        files.key.touch(mode=0o600)
        files.key.write_bytes(served.key)
        return files


def trusted_name(certificate: bytes) -> str:
    """Return the name under which OpenSSL looks for a CA's certificate in a folder: the hash of its subject.

    X509_NAME_hash(3): the first four bytes, read as a little-endian number, of SHA-1 over the canonical subject, which
    has UTF-8 strings in lower case with single blanks, and no outer SEQUENCE.

    Args:
        certificate: PEM.
    """
    subject = x509.load_pem_x509_certificate(certificate).subject
    lowered = [x509.NameAttribute(one.oid, str(one.value).lower()) for one in subject]
    encoded = x509.Name(lowered).public_bytes()
    assert encoded[1] < _SHORT  # noqa: S101  # the authority's name is ours, and short
    digest = hashlib.sha1(encoded[_HEADER_BYTES:], usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}.0"
