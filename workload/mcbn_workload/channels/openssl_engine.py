"""What every engine on OpenSSL has in common: the states of a channel, and one end for every failure.

A subclass says in `_authenticated` what must hold after the handshake, and in `_explain` what a failure means.
"""

from typing import Any, Final, Protocol

from OpenSSL import SSL

from mcbn_workload.channels import openssl
from mcbn_workload.channels.engine import Negotiated
from mcbn_workload.channels.errors import (
    ChannelBrokenError,
    ChannelClosedError,
    ChannelError,
    ChannelTruncatedError,
    HandshakeCutError,
    HandshakeError,
    PeerRefusedError,
)

TLS13: Final = "TLSv1.3"
TLS13_SUITES: Final = ("TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
# `*`: a key share is sent for both, so that a peer without the hybrid group needs no second round trip.
GROUPS: Final = b"*X25519MLKEM768/*X25519:P-256"

_ALERT: Final = b"\x15"
_TLS_HEADER: Final = 5  # bytes of a record's header: type, version, length
_DTLS_HEADER: Final = 13  # epoch and sequence number too: RFC 6347 section 4.1
_FATAL_ALERT_BODY: Final = b"\x00\x02\x02"  # length 2, level fatal: RFC 8446 section 6.2, RFC 5246 section 7.2
_HANDSHAKE_FAILURE: Final = 40


class Factory(Protocol):
    """Makes the engines of one role under one context, and keeps the callbacks that OpenSSL refers to."""

    @property
    def context(self) -> SSL.Context:
        """The context that its engines share."""


class OpenSslEngine:
    """One end of one stream channel; see `engine.Engine`."""

    def __init__(self, factory: Factory, connection: openssl.MemoryConnection, *, server: bool) -> None:
        self._factory = factory  # keeps the callback objects alive, which OpenSSL refers to
        self.connection = connection
        self._server = server
        self._eof = False
        self._closed = False
        self._heard = False
        self._failure: ChannelError | None = None
        self._negotiated: Negotiated | None = None
        self.fault: Exception | None = None  # what went wrong in a callback

    @property
    def address(self) -> int:
        """What names this connection in OpenSSL's callbacks."""
        return self.connection.address

    @property
    def negotiated(self) -> Negotiated | None:
        """The agreed facts; None until the handshake has completed and the peer is authenticated."""
        return self._negotiated

    def feed(self, ciphertext: bytes | bytearray | memoryview) -> None:
        """Take any piece of the stream."""
        self.connection.feed(ciphertext)

    def feed_eof(self) -> None:
        """Take note that the transport ended."""
        self._eof = True

    def handshake(self) -> bool:
        """Go on with the handshake; see `Engine.handshake`."""
        self._raise_failure()
        if self._negotiated is not None:
            return True
        try:
            self.connection.handshake()
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
            raise self._fail(self._explain(str(error))) from (self.fault or error)
        return True

    def read(self, size: int) -> bytes | None:
        """Give at most `size` bytes of plaintext; see `Engine.read`."""
        self._require_authenticated()
        try:
            data = self.connection.read(size)
        except openssl.WantInputError:
            if self._eof:
                raise self._fail(_truncated()) from None
            return None
        except openssl.PeerClosedError:
            return b""
        except openssl.OpenSslError as error:
            raise self._fail(self._broken(str(error))) from error
        self._heard = True
        return data

    def write(self, plaintext: bytes | bytearray | memoryview) -> int:
        """Encrypt one record's worth, at most 16384 bytes; see `Engine.write`."""
        self._require_authenticated()
        if self._closed:
            raise ChannelClosedError("this end has already closed its writing direction")
        if not plaintext:
            return 0
        try:
            return self.connection.write(plaintext)
        except openssl.OpenSslError as error:
            raise self._fail(ChannelBrokenError(f"the channel broke while writing: {error}")) from error

    def outgoing(self) -> list[bytes | bytearray]:
        """Hand over what is to be transmitted, in one piece."""
        data = self.connection.outgoing()
        if not data:
            return []
        if self._failed_in_handshake:
            make_alert_uniform(data)
        return [data]

    def close(self) -> None:
        """Send close_notify; before the end of the handshake, or after a failure, nothing is sent."""
        if not self._closed and self._failure is None and self._negotiated is not None:
            self._send_close_notify()
        self._closed = True

    def next_timeout(self) -> float | None:
        """Say that TLS runs no timer."""
        return None

    def on_timeout(self) -> None:
        """Do nothing: TLS runs no timer."""

    # What a subclass says.

    def _authenticated(self) -> Negotiated:
        """Check what the handshake established, relying on no default and no callback.

        Raises:
            HandshakeError: the peer is not authenticated, or the terms are not allowed here.
        """
        raise NotImplementedError

    def _explain(self, reason: str) -> HandshakeError:
        """Say what OpenSSL's reason for a failed handshake means."""
        raise NotImplementedError

    def _broken(self, reason: str) -> ChannelError:
        """Say what OpenSSL's reason for a failed read means."""
        return ChannelBrokenError(f"the channel broke while reading: {reason}")

    # What a subclass uses.

    @property
    def _failed_in_handshake(self) -> bool:
        return self._failure is not None and self._negotiated is None

    def _send_close_notify(self) -> None:
        try:
            self.connection.close()
        except openssl.OpenSslError as error:
            raise self._fail(ChannelBrokenError(f"the channel broke before it was closed: {error}")) from error

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


def new_tls_context(*, lowest: int, highest: int, groups: bytes = GROUPS, method: Any = SSL.TLS_METHOD) -> SSL.Context:
    """Return a context for these versions, without resumption, compression and renegotiation.

    OpenSSL sends one ticket after a TLS 1.3 handshake by an external PSK all the same (openssl/openssl issue 8077).
    With the cache off it names a session that was never stored, so nothing can be resumed.
    """
    context = SSL.Context(method)
    context.set_min_proto_version(lowest)
    context.set_max_proto_version(highest)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    openssl.set_groups(context, groups)
    return context


def new_tls13_context() -> SSL.Context:
    """Return a context for TLS 1.3 with the suites of SHA-256, the hash that others assume for an external PSK."""
    context = new_tls_context(lowest=SSL.TLS1_3_VERSION, highest=SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(":".join(TLS13_SUITES).encode())
    return context


def refused_by_peer(reason: str) -> PeerRefusedError:
    """Return the error for an alert that the peer sent."""
    return PeerRefusedError(f"the peer refused the handshake ({reason}); its own log says why")


def make_alert_uniform(record: bytearray) -> None:
    """Turn a plaintext fatal alert at the end of `record` into handshake_failure, whatever OpenSSL found wrong.

    An unknown identity and a wrong key would otherwise read differently on the wire. Alerts under the handshake keys
    (record type application_data) reach only a peer that has already completed the key exchange.
    """
    for header in (_TLS_HEADER, _DTLS_HEADER):
        alert = record[-header - 2 :]
        if alert[:1] == _ALERT and alert[header - 2 : header + 1] == _FATAL_ALERT_BODY and len(alert) == header + 2:
            record[-1] = _HANDSHAKE_FAILURE


def _cut() -> HandshakeCutError:
    return HandshakeCutError("the peer closed the connection during the handshake; its own log may say why")


def _truncated() -> ChannelTruncatedError:
    return ChannelTruncatedError("the connection ended without close_notify: what was received may be incomplete")
