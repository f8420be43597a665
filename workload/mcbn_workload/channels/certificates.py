"""Certificates for mutual TLS: each run signs its own leaf, under a CA that is a formality.

Nobody trusts the CA: it is derived from the same epoch, or comes with the image, for peers that insist on a chain. What
decides is the leaf's key (`mutual_tls`). Profiles after RFC 5280 and RFC 8446 section 4.4.2.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mcbn_protocol.identifiers import Role
from mcbn_workload.errors import ConfigurationError

PrivateKey = RSAPrivateKey | Ed25519PrivateKey
PublicKey = RSAPublicKey | Ed25519PublicKey

CA_NAME: Final = "MCBN formal CA"
_BACKDATED: Final = dt.timedelta(hours=1)  # clocks of two VMs differ
_CA_FILE_BYTES: Final = 64 * 1024
_USAGES: Final = {Role.SERVER: ExtendedKeyUsageOID.SERVER_AUTH, Role.CLIENT: ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True)
class Validity:
    """When certificates of this run hold, with time zones.

    Attributes:
        now: The time.
        until: When the epoch ends, and with it the keys.
    """

    now: dt.datetime
    until: dt.datetime


@dataclass(frozen=True)
class Authority:
    """What signs the leaf.

    Attributes:
        key: Its private key.
        certificate: Its own certificate.
    """

    key: PrivateKey = field(repr=False)
    certificate: x509.Certificate


@dataclass(frozen=True)
class Credentials:
    """What one end shows.

    Attributes:
        key: The leaf's private key.
        leaf: Its certificate, made for this run.
        authority: The CA's certificate.
    """

    key: PrivateKey = field(repr=False)
    leaf: x509.Certificate
    authority: x509.Certificate


def derived_authority(key: PrivateKey, validity: Validity) -> Authority:
    """Return the CA of a derived key, with a certificate of this run."""
    public = key.public_key()
    builder = (
        _begun(_name(CA_NAME), _name(CA_NAME), public, validity)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(certificates=True), critical=True)
    )
    return Authority(key, _signed(builder, key))


def authority_from_files(certificate: Path, key: Path) -> Authority:
    """Read a CA's certificate and unencrypted private key (PEM) from the image.

    Raises:
        ConfigurationError: A file that cannot be read, is of another form, or the two do not belong together.
    """
    try:
        found = x509.load_pem_x509_certificate(_read(certificate))
        private = load_pem_private_key(_read(key), password=None)
        constraints = found.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise ConfigurationError(f"{certificate} and {key} are no CA ({type(error).__name__})") from error
    if not isinstance(private, RSAPrivateKey | Ed25519PrivateKey):
        raise ConfigurationError(f"{key}: a CA has an RSA or Ed25519 key here")
    if not constraints.ca or found.public_key() != private.public_key():
        raise ConfigurationError(f"{certificate} is no CA's certificate, or not that of {key}")
    return Authority(private, found)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_CA_FILE_BYTES)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


def signing_request(role: Role, key: PrivateKey, names: Sequence[str]) -> x509.CertificateSigningRequest:
    """Return the request for a leaf: what the key's holder wants to be called (RFC 2986).

    Args:
        role: Whose leaf.
        key: The role's key.
        names: DNS names.
    """
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name(f"mcbn {role.value}"))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    )
    if isinstance(key, RSAPrivateKey):
        return builder.sign(key, SHA256(), rsa_padding=_pss())
    return builder.sign(key, None)


def issue(
    request: x509.CertificateSigningRequest, authority: Authority, *, role: Role, validity: Validity
) -> x509.Certificate:
    """Return a leaf for a request.

    Args:
        request: From `signing_request`.
        authority: Who signs.
        role: Decides the extended key usage.
        validity: When it holds.

    Raises:
        ConfigurationError: The request does not verify, or has a key of another kind.
    """
    public = request.public_key()
    if not request.is_signature_valid or not isinstance(public, RSAPublicKey | Ed25519PublicKey):
        raise ConfigurationError("the certificate signing request does not verify under its own key")
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    issuer = authority.certificate
    builder = (
        _begun(request.subject, issuer.subject, public, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_USAGES[role]]), critical=False)
        .add_extension(_authority_identifier(issuer), critical=False)
        .add_extension(names, critical=False)
    )
    return _signed(builder, authority.key)


def credentials(
    role: Role, key: PrivateKey, authority: Authority, *, names: Sequence[str], validity: Validity
) -> Credentials:
    """Return what an end of this role shows in this run: a new serial number, and times from now on."""
    leaf = issue(signing_request(role, key, names), authority, role=role, validity=validity)
    return Credentials(key, leaf, authority.certificate)


def _begun(subject: x509.Name, issuer: x509.Name, public: PublicKey, validity: Validity) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.now - _BACKDATED)
        .not_valid_after(validity.until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, key: PrivateKey) -> x509.Certificate:
    if isinstance(key, RSAPrivateKey):
        return builder.sign(key, SHA256(), rsa_padding=_pss())
    return builder.sign(key, None)


def _pss() -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=SHA256.digest_size)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _authority_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        known = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        public = issuer.public_key()
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)  # type: ignore[arg-type]  # any issuer's key
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)


def _key_usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )
