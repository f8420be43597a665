"""The certificates of a PKI token: exactly leaf, intermediate and root, of which only the root is known beforehand.

The root is pinned by the SHA-256 of its DER. Intermediates are not, for the service replaces them. Every certificate
is looked at only after the one above it has vouched for it, root first. The parsing and the signatures are the work
of `cryptography`; its own path verifier asks for a subject alternative name, key usage and extended key usage, which
the service's leaves do not have, and where it is told not to ask, it takes an intermediate for a leaf.
"""

import base64
import binascii
import hashlib
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import ExtensionOID, SignatureAlgorithmOID

from mcbn_broker.attestation.errors import NotAuthentic, TokenCheck
from mcbn_broker.attestation.published_keys import RSA_BITS
from mcbn_broker.attestation.strict_jws import CHAIN

CERTIFICATE_CHARS: Final = 8 * 1024
"""The longest base64 of one certificate; the service's have up to 2,500 characters."""

_CHAINS_KEPT: Final = 16  # only chains to a pinned root are kept; the service signs with few leaves at a time
_ALGORITHMS: Final = frozenset(
    {
        SignatureAlgorithmOID.RSA_WITH_SHA256,
        SignatureAlgorithmOID.RSA_WITH_SHA384,
        SignatureAlgorithmOID.RSA_WITH_SHA512,
    }
)
_UNDERSTOOD: Final = frozenset({ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE})
_FOREIGN: Final = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for a certificate that it cannot read or that is not what it claims to be."""


class Chain(NamedTuple):
    """Three certificates in DER, in the order of `x5c` (RFC 7515 section 4.1.6). Nothing of them is verified."""

    leaf: bytes
    intermediate: bytes
    root: bytes

    @property
    def root_hash(self) -> bytes:
        """SHA-256 of the last certificate, by which roots are pinned."""
        return hashlib.sha256(self.root).digest()


class _Genuine(NamedTuple):
    """What a chain comes to whose signatures and forms are right, at whatever time."""

    key: RSAPublicKey
    not_before: int
    not_after: int


class _Refused(Exception):  # noqa: N818  # leaves this module only as NotAuthentic or CertificateError
    """A certificate is not what its place in the chain asks for."""


def certificates(unverified_header: Mapping[str, Any]) -> Chain:
    """Return the certificates in a token's header.

    Raises:
        NotAuthentic: `token.chain`: not exactly three different strings of canonical standard base64.
    """
    found = unverified_header.get(CHAIN)
    if not isinstance(found, list) or len(found) != len(Chain._fields):
        raise _not_authentic(f"{CHAIN} must be a list of {len(Chain._fields)} certificates: leaf, intermediate, root")
    chain = Chain(*(_der(text, name) for text, name in zip(found, Chain._fields, strict=True)))
    if len(set(chain)) != len(chain):
        raise _not_authentic(f"{CHAIN} has one certificate twice")
    return chain


def _der(text: object, name: str) -> bytes:
    if not isinstance(text, str) or not 0 < len(text) <= CERTIFICATE_CHARS:
        raise _not_authentic(f"{name}: a string of 1 to {CERTIFICATE_CHARS} characters is expected")
    try:
        der = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _not_authentic(f"{name}: not standard base64") from error
    if base64.b64encode(der).decode("ascii") != text:
        raise _not_authentic(f"{name}: not canonical base64")
    return der


def leaf_key(chain: Chain, *, roots: Collection[bytes], now: int) -> RSAPublicKey:
    """Return the key that a chain vouches for: the one that must have signed the token.

    Args:
        chain: From the token's header.
        roots: SHA-256 of every pinned root's DER, 32 bytes each.
        now: The decision's reference time, Unix seconds.

    Raises:
        NotAuthentic: `token.chain`: it ends at no pinned root, one certificate is not vouched for by the next or not
            fit for its place, or one is not valid at `now`.
    """
    if chain.root_hash not in roots:
        pinned = ", ".join(sorted(root.hex() for root in roots))
        raise _not_authentic(f"it ends at root {chain.root_hash.hex()}, not at a pinned one: {pinned}")
    try:
        genuine = _verified(chain)
    except _Refused as refused:
        raise _not_authentic(str(refused)) from refused
    if not genuine.not_before <= now <= genuine.not_after:
        raise _not_authentic(f"valid from {genuine.not_before} to {genuine.not_after}, now {now}: compare clocks")
    return genuine.key


def root_hash(der: bytes) -> bytes:
    """Return the SHA-256 by which a root certificate is pinned, if it can be the root of a PKI token's chain.

    Args:
        der: One certificate.

    Raises:
        NotAuthentic: `token.chain`: it is none, is not signed by its own key, or may not issue intermediates.
    """
    try:
        root = _loaded(der, "root")
        _check_vouched(root, root, "root")
        _check_authority(root, "root", below=1)
    except _Refused as refused:
        raise _not_authentic(str(refused)) from refused
    return hashlib.sha256(der).digest()


@lru_cache(maxsize=_CHAINS_KEPT)
def _verified(chain: Chain) -> _Genuine:
    """RFC 5280 section 6.1 for a path of three, without the times: those are compared at each use.

    Raises:
        _Refused: It is no such path. Refusals are not kept.
    """
    root = _loaded(chain.root, "root")
    _check_vouched(root, root, "root")
    _check_authority(root, "root", below=1)
    intermediate = _loaded(chain.intermediate, "intermediate")
    _check_vouched(intermediate, root, "intermediate")
    _check_authority(intermediate, "intermediate", below=0)
    leaf = _loaded(chain.leaf, "leaf")
    _check_vouched(leaf, intermediate, "leaf")
    _check_leaf(leaf)
    path = (root, intermediate, leaf)
    return _Genuine(
        _rsa_key(leaf, "leaf"),
        not_before=max(int(one.not_valid_before_utc.timestamp()) for one in path),
        not_after=min(int(one.not_valid_after_utc.timestamp()) for one in path),
    )


def _loaded(der: bytes, name: str) -> x509.Certificate:
    """A certificate whose key and signature algorithm are of the kinds that are taken here."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        algorithm = certificate.signature_algorithm_oid
    except _FOREIGN as error:
        raise _Refused(f"{name}: no X.509 certificate in DER: {type(error).__name__}") from error
    if algorithm not in _ALGORITHMS:
        raise _Refused(f"{name}: signed by {algorithm.dotted_string}, not by RSA (PKCS #1 v1.5) with SHA-256 or better")
    if not der.endswith(b"\0" + certificate.signature):  # the byte counts unused bits, which a parser may let pass
        raise _Refused(f"{name}: the signature is not a whole number of bytes")
    _rsa_key(certificate, name)
    return certificate


def _rsa_key(certificate: x509.Certificate, name: str) -> RSAPublicKey:
    try:
        key = certificate.public_key()
    except _FOREIGN as error:
        raise _Refused(f"{name}: its key cannot be read: {type(error).__name__}") from error
    if not isinstance(key, RSAPublicKey) or key.key_size not in RSA_BITS:
        raise _Refused(f"{name}: its key is not RSA of {RSA_BITS.start} to {RSA_BITS.stop - 1} bits")
    return key


def _check_vouched(certificate: x509.Certificate, issuer: x509.Certificate, name: str) -> None:
    """Names chain and the signature verifies (RFC 5280 section 6.1.3, a.1 and a.4)."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except _FOREIGN as error:
        raise _Refused(f"{name}: the next certificate did not issue it: {type(error).__name__}") from error


def _check_authority(certificate: x509.Certificate, name: str, *, below: int) -> None:
    """It may issue certificates, and have so many authorities below it (RFC 5280 section 6.1.4, k to n)."""
    extensions = _extensions(certificate, name)
    basic, usage = extensions.get(ExtensionOID.BASIC_CONSTRAINTS), extensions.get(ExtensionOID.KEY_USAGE)
    if basic is None or not basic.critical or not basic.value.ca:
        raise _Refused(f"{name}: basic constraints must say, critically, that it is an authority")
    if basic.value.path_length is not None and basic.value.path_length < below:
        raise _Refused(f"{name}: its path length {basic.value.path_length} does not admit the certificates below it")
    if usage is not None and not usage.value.key_cert_sign:
        raise _Refused(f"{name}: its key usage does not admit signing certificates")


def _check_leaf(leaf: x509.Certificate) -> None:
    """An authority's key signs certificates; that one signed a token is nothing that the service does."""
    extensions = _extensions(leaf, "leaf")
    basic, usage = extensions.get(ExtensionOID.BASIC_CONSTRAINTS), extensions.get(ExtensionOID.KEY_USAGE)
    if basic is None or basic.value.ca:
        raise _Refused("leaf: basic constraints must say that it is no authority")
    if usage is not None and not usage.value.digital_signature:
        raise _Refused("leaf: its key usage does not admit signing tokens")


def _extensions(certificate: x509.Certificate, name: str) -> dict[x509.ObjectIdentifier, x509.Extension[Any]]:
    """The extensions by identifier; a critical one that is not understood refuses (RFC 5280 section 4.2)."""
    try:
        extensions = {one.oid: one for one in certificate.extensions}
    except _FOREIGN as error:
        raise _Refused(f"{name}: its extensions cannot be read: {type(error).__name__}") from error
    unknown = sorted(one.oid.dotted_string for one in extensions.values() if one.critical)
    unknown = [oid for oid in unknown if x509.ObjectIdentifier(oid) not in _UNDERSTOOD]
    if unknown:
        raise _Refused(f"{name}: unknown critical extension {unknown[0]}")
    return extensions


def _not_authentic(detail: str) -> NotAuthentic:
    return NotAuthentic(TokenCheck.CHAIN, detail)
