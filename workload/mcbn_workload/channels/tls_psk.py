"""The TLS 1.3 engine keyed by an external PSK (RFC 8446 section 2.2, RFC 9257), on pyOpenSSL.

Only `psk_dhe_ke` (OpenSSL's default for both ends), so that a later leak of every share does not open recorded traffic.
Suites are those with SHA-256, the hash that other implementations assume for an external PSK.

A node holds the key of one direction in one role only: the roles are in the key's purpose, so a flight reflected to its
sender (the Selfie attack, RFC 9257 section 4.1) meets an end that is not a server for that identity.
"""

import weakref
from collections.abc import Callable
from typing import Any, Final

from OpenSSL import SSL

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import openssl
from mcbn_workload.channels.engine import Engine, Negotiated
from mcbn_workload.channels.errors import (
    ChannelBrokenError,
    ChannelClosedError,
    ChannelError,
    ChannelTruncatedError,
    HandshakeCutError,
    HandshakeError,
    PeerNotAuthenticatedError,
    PeerRefusedError,
    ProtocolRefusedError,
    PskIdentityError,
    PskMismatchError,
)
from mcbn_workload.errors import ConfigurationError

PROTOCOL: Final = "TLSv1.3"
SUITES: Final = ("TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
# `*`: a key share is sent for both, so that a peer without the hybrid group needs no second round trip.
GROUPS: Final = b"*X25519MLKEM768/*X25519:P-256"
PSK_BYTES: Final = 32
IDENTITY_BYTES_MAX: Final = 128  # OpenSSL's callback holds 256; ours have 28

PskLookup = Callable[[bytes], Secret | None]
"""Finds the key of an identity that a client offers; None when this server holds none of that name."""

openssl.require_psk()


class TlsPskClient:
    """Makes the client's engines for one identity and its key."""

    def __init__(self, identity: str, psk: Secret) -> None:
        """Prepare the context that all engines of this factory share.

        Args:
            identity: the PSK identity, ASCII, at most 128 characters.
            psk: the 32-byte key, derived for this direction and for TLS 1.3.

        Raises:
            ConfigurationError: an identity or key of another shape.
        """
        self.identity: Final = identity
        self._identity_bytes = _checked_identity(identity)
        self._psk = _checked_psk(psk)
        self.context: Final = _new_context()
        # Without this a server that ignores the PSK and shows any certificate is accepted.
        self.context.set_verify(SSL.VERIFY_PEER, _refuse_certificate)
        self._callback = openssl.set_psk_client(self.context, self._offer)

    def __call__(self) -> Engine:
        """Make the engine of one channel."""
        engine = TlsPskEngine(self, server=False)
        engine.psk_identity = self.identity
        return engine

    def _offer(self, _ssl: Any, _hint: Any, identity: Any, _room: int, psk: Any, psk_room: int) -> int:
        if psk_room < PSK_BYTES:
            return 0
        terminated = self._identity_bytes + b"\0"
        openssl.ffi.memmove(identity, terminated, len(terminated))
        openssl.ffi.memmove(psk, self._psk.reveal(), PSK_BYTES)
        return PSK_BYTES


class TlsPskServer:
    """Makes the server's engines for every identity that a lookup knows, such as one for each live epoch.

    The context holds no certificate, ever: with one, an unknown identity would fall through to certificate
    authentication.
    """

    def __init__(self, lookup: PskLookup) -> None:
        """Prepare the context that all engines of this factory share.

        Args:
            lookup: called during each handshake; must match identities exactly and answer at once.
        """
        self._lookup = lookup
        self._engines: weakref.WeakValueDictionary[int, TlsPskEngine] = weakref.WeakValueDictionary()
        self.context: Final = _new_context()
        self._callback = openssl.set_psk_server(self.context, self._choose)

    def __call__(self) -> Engine:
        """Make the engine of one channel."""
        engine = TlsPskEngine(self, server=True)
        self._engines[engine.address] = engine
        return engine

    def _choose(self, ssl: Any, identity: Any, psk: Any, room: int) -> int:
        engine = self._engines[openssl.address_of(ssl)]
        unverified_identity: bytes = openssl.ffi.string(identity)
        engine.psk_offered, engine.psk_identity = unverified_identity, None
        try:
            secret = self._lookup(unverified_identity)
            key = None if secret is None else _checked_psk(secret).reveal()
        except Exception as error:  # noqa: BLE001  # must not pass through C; the engine raises it as the cause
            engine.psk_error = error.with_traceback(None)
            return 0
        if key is None or room < PSK_BYTES:
            return 0
        engine.psk_identity = unverified_identity.decode("ascii", "backslashreplace")
        openssl.ffi.memmove(psk, key, PSK_BYTES)
        return PSK_BYTES


class TlsPskEngine:
    """One end of one TLS 1.3 channel; see `engine.Engine`. Made by `TlsPskClient` and `TlsPskServer`."""

    def __init__(self, factory: TlsPskClient | TlsPskServer, *, server: bool) -> None:
        self._factory = factory  # keeps the callback objects alive, which OpenSSL refers to
        self._connection = openssl.MemoryConnection(factory.context, server=server)
        self.address: Final = self._connection.address
        self._server = server
        self._eof = False
        self._closed = False
        self._failure: ChannelError | None = None
        self._negotiated: Negotiated | None = None
        self.psk_offered: bytes | None = None  # the last identity that a client offered, known or not
        self.psk_identity: str | None = None  # the identity whose key OpenSSL was given
        self.psk_error: Exception | None = None  # what the lookup raised

    @property
    def negotiated(self) -> Negotiated | None:
        """The agreed facts; None until the handshake has completed and the peer is authenticated."""
        return self._negotiated

    def feed(self, ciphertext: bytes | bytearray | memoryview) -> None:
        """Take any piece of the stream."""
        self._connection.feed(ciphertext)

    def feed_eof(self) -> None:
        """Take note that the transport ended."""
        self._eof = True

    def handshake(self) -> bool:
        """Go on with the handshake; see `Engine.handshake`."""
        self._raise_failure()
        if self._negotiated is not None:
            return True
        try:
            self._connection.handshake()
            self._negotiated = self._authenticated()
        except openssl.WantInputError:
            if self._eof:
                raise self._fail(_cut()) from None
            return False
        except openssl.PeerClosedError as error:
            raise self._fail(_cut()) from error
        except HandshakeError as error:
            raise self._fail(error) from None
        except openssl.OpenSslError as error:
            raise self._fail(self._explain(str(error))) from (self.psk_error or error)
        return True

    def read(self, size: int) -> bytes | None:
        """Give at most `size` bytes of plaintext; see `Engine.read`."""
        self._require_authenticated()
        try:
            return self._connection.read(size)
        except openssl.WantInputError:
            if self._eof:
                raise self._fail(_truncated()) from None
            return None
        except openssl.PeerClosedError:
            return b""
        except openssl.OpenSslError as error:
            raise self._fail(ChannelBrokenError(f"the channel broke while reading: {error}")) from error

    def write(self, plaintext: bytes | bytearray | memoryview) -> int:
        """Encrypt one record's worth, at most 16384 bytes; see `Engine.write`."""
        self._require_authenticated()
        if self._closed:
            raise ChannelClosedError("this end has already closed its writing direction")
        if not plaintext:
            return 0
        try:
            return self._connection.write(plaintext)
        except openssl.OpenSslError as error:
            raise self._fail(ChannelBrokenError(f"the channel broke while writing: {error}")) from error

    def outgoing(self) -> list[bytes | bytearray]:
        """Hand over what is to be transmitted, in one piece."""
        data = self._connection.outgoing()
        if self._failure is not None and self._negotiated is None:
            _make_alert_uniform(data)
        return [data] if data else []

    def close(self) -> None:
        """Send close_notify; before the end of the handshake, or after a failure, nothing is sent."""
        if not self._closed and self._failure is None and self._negotiated is not None:
            self._send_close_notify()
        self._closed = True

    def _send_close_notify(self) -> None:
        try:
            self._connection.close()
        except openssl.OpenSslError as error:
            raise self._fail(ChannelBrokenError(f"the channel broke before it was closed: {error}")) from error

    def next_timeout(self) -> float | None:
        """Say that TLS runs no timer."""
        return None

    def on_timeout(self) -> None:
        """Do nothing: TLS runs no timer."""

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise openssl.without_traceback(self._failure)

    def _require_authenticated(self) -> None:
        """Refuse data before `handshake` is through: OpenSSL would complete it on its own, past our checks."""
        self._raise_failure()
        if self._negotiated is None:
            raise ChannelClosedError("the channel's handshake is not complete")

    def _fail(self, error: ChannelError) -> ChannelError:
        self._failure = openssl.without_traceback(error)
        return error

    def _authenticated(self) -> Negotiated:
        """Check that the PSK, and nothing else, authenticated the peer: the library's defaults are not relied on."""
        protocol, suite, group = self._connection.facts()
        if self._connection.peer_has_certificate() or not self._connection.used_psk() or self.psk_identity is None:
            raise PeerNotAuthenticatedError("the handshake completed without the PSK; the peer is not who it must be")
        if protocol != PROTOCOL or suite not in SUITES:
            raise ProtocolRefusedError(f"the handshake ended with {protocol} and {suite}, which are not allowed here")
        return Negotiated(protocol, suite, group, self.psk_identity)

    def _explain(self, reason: str) -> HandshakeError:
        if " alert " in reason:
            return PeerRefusedError(f"the peer refused the handshake ({reason}); its own log says why")
        if reason == "binder does not verify":
            return PskMismatchError(
                f"the peer names PSK identity {self.psk_identity} but holds another key: "
                "compare manifest hash, epoch and shares at both ends"
            )
        if reason == "certificate verify failed":
            return PeerNotAuthenticatedError(
                "the server ignored the PSK and showed a certificate: it is not the far end; check the address"
            )
        if self._server and reason == "no suitable signature algorithm":
            return self._explain_no_psk()
        return ProtocolRefusedError(f"no common ground with the peer ({reason or 'no reason given'})")

    def _explain_no_psk(self) -> HandshakeError:
        if self.psk_error is not None:
            return PskIdentityError(f"the key could not be looked up ({type(self.psk_error).__name__})")
        if self.psk_offered is None:
            return PeerNotAuthenticatedError("the client offered no PSK usable with this end's suites and psk_dhe_ke")
        return PskIdentityError(
            f"the client offers PSK identity {self.psk_offered[:IDENTITY_BYTES_MAX]!r}, which this end does not hold: "
            "compare manifest hash and epoch at both ends"
        )


def _new_context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(":".join(SUITES).encode())
    # OpenSSL sends one ticket after a PSK handshake all the same (openssl/openssl issue 8077). With the cache off it
    # names a session that was never stored, so nothing can be resumed.
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    openssl.set_groups(context, GROUPS)
    return context


def _checked_identity(identity: str) -> bytes:
    if not (identity.isascii() and identity.isprintable() and 0 < len(identity) <= IDENTITY_BYTES_MAX):
        raise ConfigurationError(f"a PSK identity has 1 to {IDENTITY_BYTES_MAX} printable ASCII characters")
    return identity.encode("ascii")


def _checked_psk(psk: Secret) -> Secret:
    if len(psk.reveal()) != PSK_BYTES:
        raise ConfigurationError(f"a TLS 1.3 PSK has {PSK_BYTES} bytes")
    return psk


def _refuse_certificate(*_unverified: object) -> bool:
    return False


def _make_alert_uniform(data: bytearray) -> None:
    """Turn a plaintext fatal alert at the end of `data` into handshake_failure, whatever OpenSSL found wrong.

    An unknown identity and a wrong key would otherwise read differently on the wire. Alerts under the handshake keys
    (record type application_data) reach only a peer that has already completed the key exchange.
    """
    record = data[-7:]
    if record[:1] == b"\x15" and record[3:6] == b"\x00\x02\x02":  # type alert, length 2, level fatal: RFC 8446 6.2
        data[-1] = 40


def _cut() -> HandshakeCutError:
    return HandshakeCutError("the peer closed the connection during the handshake; its own log may say why")


def _truncated() -> ChannelTruncatedError:
    return ChannelTruncatedError("the connection ended without close_notify: what was received may be incomplete")
