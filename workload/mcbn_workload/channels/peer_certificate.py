"""Decides on a peer's certificate chain: the leaf's key has to be the expected one, and an unknown CA is no objection.

pyOpenSSL's own callback cannot choose the alert. This one makes every refusal look alike to the peer, as
handshake_failure, whatever was wrong with the certificate.
"""

from collections.abc import Callable
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL, crypto

from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.identifiers import sha256
from mcbn_workload.channels.certificates import PublicKey
from mcbn_workload.channels.openssl import OpenSslError, address_of, ffi, lib, take_reason

NAME_PREFIX: Final = "spki-sha256:"

_REQUIRED: Final = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
_UNKNOWN_AUTHORITY: Final = frozenset(
    {
        lib.X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
        lib.X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
        lib.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        lib.X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
    }
)

Judge = Callable[[int, str, x509.Certificate | None], bool]
"""Says whether a connection, named by its address, may go on.

Takes OpenSSL's objection, such as an expired certificate, with which it never may; or the empty string and the leaf.
"""


def spki_of(key: PublicKey) -> bytes:
    """Return a key's SubjectPublicKeyInfo, DER (RFC 5280 section 4.1.2.7)."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def name_of(spki: bytes) -> str:
    """Return the public name of a key: "spki-sha256:" and the base64url of SHA-256 of its SubjectPublicKeyInfo."""
    return NAME_PREFIX + b64u_encode(sha256(spki))


def spki_of_certificate(unverified: x509.Certificate) -> bytes:
    """Return the SubjectPublicKeyInfo of a certificate's key, DER.

    Raises:
        ValueError: A key that cannot be read; or `UnsupportedAlgorithm`, one of an unknown kind.
    """
    return unverified.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def unfit_for_a_leaf(unverified: x509.Certificate) -> str | None:
    """Say why a certificate cannot be a leaf in TLS 1.3, for reasons that OpenSSL lets pass; None if it can.

    Raises:
        ValueError: An extension that cannot be read.
    """
    for one in unverified.extensions:
        if isinstance(one.value, x509.BasicConstraints) and one.value.ca:
            return "it is a CA's (RFC 5280 section 4.2.1.9)"
        if isinstance(one.value, x509.KeyUsage) and not one.value.digital_signature:
            return "its key usage has no digitalSignature (RFC 8446 section 4.4.2.2)"
    return None


def require_certificate(context: SSL.Context, judge: Judge) -> object:
    """Demand a certificate of every peer, and let `judge` decide on it.

    OpenSSL has checked the leaf's times, key usage, extended key usage for the peer's role, and the signatures of the
    chain as far as it was sent. Of its objections only those to an unknown CA are passed over.

    Returns:
        What must live as long as the context and its connections.
    """

    def verify(ok: int, store: Any) -> int:
        accepted = _ask(judge, bool(ok), store)
        verdict = lib.X509_V_OK if accepted else lib.X509_V_ERR_APPLICATION_VERIFICATION
        lib.X509_STORE_CTX_set_error(store, verdict)  # decides on the alert
        return int(accepted)

    keep = ffi.callback("int(int, X509_STORE_CTX *)", verify, error=0)
    lib.SSL_CTX_set_verify(context._context, _REQUIRED, keep)  # noqa: SLF001  # pyOpenSSL's setter hides the store
    return keep


def set_signatures(context: SSL.Context, algorithms: bytes) -> None:
    """Allow only these signature algorithms, in OpenSSL's list syntax, in the peer's and in this end's proof."""
    if lib.SSL_CTX_set1_sigalgs_list(context._context, algorithms) != 1:  # noqa: SLF001  # pyOpenSSL has no setter
        raise OpenSslError(take_reason())


def _ask(judge: Judge, ok: bool, store: Any) -> bool:
    ssl = lib.X509_STORE_CTX_get_ex_data(store, lib.SSL_get_ex_data_X509_STORE_CTX_idx())
    error = lib.X509_STORE_CTX_get_error(store)
    if not ok and error not in _UNKNOWN_AUTHORITY:
        return judge(address_of(ssl), _text(error), None)
    # No authority is trusted, so each chain meets an unknown one while it is put together, before any signature in it
    # is checked: a stranger's leaf is refused there. The call without an error comes last, so no leaf is passed over.
    if ok and lib.X509_STORE_CTX_get_error_depth(store) > 0:
        return True
    try:
        leaf = _certificate(lib.X509_STORE_CTX_get0_cert(store))
    except Exception as error:  # noqa: BLE001  # must not pass through C; OpenSSL takes forms that x509 refuses
        return judge(address_of(ssl), f"it cannot be read ({type(error).__name__})", None)
    return judge(address_of(ssl), "", leaf)


def _text(error: int) -> str:
    text: bytes = ffi.string(lib.X509_verify_cert_error_string(error))
    return text.decode("ascii", "replace")


def _certificate(pointer: Any) -> x509.Certificate:
    lib.X509_up_ref(pointer)
    return crypto.X509._from_raw_x509_ptr(pointer).to_cryptography()  # noqa: SLF001  # pyOpenSSL has no other way in
