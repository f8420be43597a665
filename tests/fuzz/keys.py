"""RSA keys from fixed seeds, what they sign, and the certificates of a PKI token."""

import datetime as dt
import functools

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.rsa_schemes import RsaScheme
from mcbn_protocol.secret import Secret
from mcbn_workload.rsa_keys import derive_rsa_key
from tests.fuzz.material import NOW

_MARGIN = dt.timedelta(days=365)


@functools.cache
def rsa_key(number: int) -> RSAPrivateKey:
    """A throwaway key, the same in every run."""
    return derive_rsa_key(RsaScheme.C2SP_DET_KEYGEN, Secret(bytes([number]) * 32), 2048)


def jws(header: bytes, payload: bytes, key: RSAPrivateKey) -> str:
    """A compact JWS over any bytes, RS256 (RFC 7515 section 3.1)."""
    signed = f"{b64u_encode(header)}.{b64u_encode(payload)}"
    return f"{signed}.{b64u_encode(key.sign(signed.encode('ascii'), PKCS1v15(), SHA256()))}"


@functools.cache
def chain() -> tuple[bytes, bytes, bytes]:
    """Leaf, intermediate and root in DER; the leaf's key is `rsa_key(1)`."""
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in ("leaf", "middle", "root")]
    keys = [rsa_key(number) for number in (1, 2, 3)]
    return (
        _issued(names[0], keys[0], names[1], keys[1], ca=False, path_length=None),
        _issued(names[1], keys[1], names[2], keys[2], ca=True, path_length=0),
        _issued(names[2], keys[2], names[2], keys[2], ca=True, path_length=None),
    )


def _issued(
    subject: x509.Name, key: RSAPrivateKey, issuer: x509.Name, by: RSAPrivateKey, *, ca: bool, path_length: int | None
) -> bytes:
    moment = dt.datetime.fromtimestamp(NOW, dt.UTC)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(len(subject.rfc4514_string()))
        .not_valid_before(moment - _MARGIN)
        .not_valid_after(moment + _MARGIN)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not ca, key_cert_sign=ca, crl_sign=ca, decipher_only=False, **usage),
            critical=True,
        )
        .sign(by, SHA256())
        .public_bytes(Encoding.DER)
    )
