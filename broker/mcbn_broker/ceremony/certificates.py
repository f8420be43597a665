"""The certificates of a broker that brings its own TLS authority, as whoever signs a manifest has to see them."""

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from mcbn_broker.errors import CeremonyError
from mcbn_protocol.errors import MalformedError
from mcbn_protocol.manifest import check_tls_ca


@dataclass(frozen=True)
class CertificateFacts:
    """One certificate: its subject (RFC 4514; its maker chose it), and the SHA-256 of its DER, 32 bytes."""

    subject: str
    sha256: bytes


def read_certificates(pem: str) -> tuple[CertificateFacts, ...]:
    """Return the facts of each certificate in a PEM text that holds certificates and nothing else.

    Raises:
        CeremonyError: It holds something else, or something that is no certificate.
    """
    try:
        found = x509.load_pem_x509_certificates(check_tls_ca(pem).encode("ascii"))
        return tuple(CertificateFacts(one.subject.rfc4514_string(), one.fingerprint(SHA256())) for one in found)
    except (MalformedError, ValueError) as error:
        raise CeremonyError(f"TLS authority: PEM certificates and nothing else are expected: {error}") from error
