"""One Mbed TLS session over buffers in memory: the only module that touches python-mbedtls.

It stands where `openssl.MemoryConnection` stands: it has its methods, raises its exceptions, and names suites and
reasons with OpenSSL's words, so that the engines above serve both libraries.

Of python-mbedtls it uses the buffers only. Its sockets spin when the peer goes away during a handshake, never
retransmit over datagrams, and lose what was read when a record and a half have arrived.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from mcbn_workload.channels.errors import EngineUnavailableError
from mcbn_workload.channels.openssl import OpenSslError, PeerClosedError, WantInputError, without_traceback

try:
    from mbedtls import tls
    from mbedtls.exceptions import TLSError
except ImportError as error:
    raise EngineUnavailableError(
        "there is no Mbed TLS here: put it into the image as docs/how-to/extend-an-image.md shows, elsewhere install "
        "mcbn with the extra `mbedtls` (CPython up to 3.12 on x86-64); or set `engine` to `pyopenssl`"
    ) from error

# By OpenSSL's names: Mbed TLS's, and the bytes that a record grows by (RFC 7905, RFC 5288 section 3, RFC 6655).
SUITES: Final = {
    "ECDHE-PSK-CHACHA20-POLY1305": ("TLS-ECDHE-PSK-WITH-CHACHA20-POLY1305-SHA256", 16),
    "PSK-AES128-GCM-SHA256": ("TLS-PSK-WITH-AES-128-GCM-SHA256", 24),
    "PSK-AES128-CCM8": ("TLS-PSK-WITH-AES-128-CCM-8", 16),
}
_OPENSSL_NAMES: Final = {theirs: name for name, (theirs, _growth) in SUITES.items()}
_PROTOCOLS: Final = {tls.TLSVersion.TLSv1_2: "TLSv1.2", tls.DTLSVersion.DTLSv1_2: "DTLSv1.2"}

NO_COMMON_SUITE: Final = "no shared cipher"
_PEER_CLOSED: Final = 0x7880
_REASONS: Final = {
    0x7180: "bad record mac",
    0x7E80: "digest check failed",  # the Finished message
    0x7780: "fatal alert message",
    0x6C80: "psk identity not found",
    0x7380: NO_COMMON_SUITE,
    0x6800: "read timeout expired",
}

CHUNK_BYTES: Final = 16 * 1024  # one record's plaintext; the library's own buffers hold two
_READ_BYTES: Final = 64 * 1024
_GREETING: Final = frozenset(
    {
        tls.HandshakeStep.HELLO_REQUEST,
        tls.HandshakeStep.CLIENT_HELLO,
        tls.HandshakeStep.SERVER_HELLO,  # where Mbed TLS writes the HelloVerifyRequest instead
        tls.HandshakeStep.SERVER_HELLO_VERIFY_REQUEST_SENT,
    }
)

Context = tls.ClientContext | tls.ServerContext


class CookieAskedError(Exception):
    """A HelloVerifyRequest is written. Control flow between the sessions; never leaves them."""


class Buffer(tls.TLSWrappedBuffer):
    """Mbed TLS's session and buffers, of which an error leaves the session as it is.

    python-mbedtls resets the session after every error, and counts the peer's close_notify as one: nothing could be
    written after that, not even our own.
    """

    def _reset(self) -> None:
        """Called by every method of the library's class; see above."""

    def start_over(self) -> None:
        """Forget the session, as the library would by itself."""
        super()._reset()  # type: ignore[misc]  # the library's stub leaves it out

    @property
    def greeting(self) -> bool:
        """Whether a server has not yet seen a ClientHello with the right cookie."""
        return self._step in _GREETING

    @property
    def over(self) -> bool:
        """Whether the handshake is complete."""
        return self._step is tls.HandshakeStep.HANDSHAKE_OVER

    @property
    def _step(self) -> object:  # the library's stub takes its members for numbers
        return self._handshake_state


class StreamSession:
    """A session whose two directions are buffers in memory; the counterpart of `openssl.MemoryConnection`."""

    def __init__(self, context: Context) -> None:
        self._buffer = Buffer(context)
        self._fed = bytearray()
        self._written = bytearray()
        self._read_end: Exception | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append ciphertext to what Mbed TLS will read. It is copied."""
        self._fed += data

    def outgoing(self) -> bytearray:
        """Take the ciphertext that Mbed TLS has written."""
        data, self._written = self._written, bytearray()
        return data

    def handshake(self) -> None:
        """Go on with the handshake; returns when it is complete.

        Raises:
            WantInputError: more must be fed first.
            PeerClosedError: close_notify instead of a handshake.
            OpenSslError: it failed.
        """
        while not self._buffer.over:
            self._do(self._buffer.do_handshake)

    def read(self, size: int) -> bytes:
        """Decrypt what was fed: at least one byte, at most `size` and at most 65536.

        Raises:
            WantInputError: more must be fed first.
            PeerClosedError: the peer has sent close_notify.
            OpenSslError: a record did not verify, or the peer sent a fatal alert.
        """
        if self._read_end is not None:
            raise without_traceback(self._read_end)
        room = memoryview(bytearray(min(size, _READ_BYTES)))
        filled = 0
        while filled < len(room):
            try:
                filled += self._read_into(room[filled:])
            except (WantInputError, PeerClosedError, OpenSslError) as outcome:
                self._note_end(outcome, filled)
                break
        return bytes(room[:filled])

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt one record; return how many bytes it took, which may be fewer than given.

        Raises:
            OpenSslError: the connection cannot write any more.
        """
        chunk = memoryview(data)[:CHUNK_BYTES]
        self._do(self._buffer.write, chunk)
        return len(chunk)

    def close(self) -> None:
        """Send close_notify.

        Raises:
            OpenSslError: the connection has failed, such as by a bad record.
        """
        if isinstance(self._read_end, OpenSslError):
            raise without_traceback(self._read_end)
        self._do(self._buffer.shutdown)

    def peer_has_certificate(self) -> bool:
        """Whether the peer showed a certificate."""
        return self._buffer.getpeercert(True) is not None

    def facts(self) -> tuple[str, str, str]:
        """Return protocol version and cipher suite by OpenSSL's names, and no group: the library does not tell it."""
        return _PROTOCOLS.get(self._buffer.negotiated_tls_version(), ""), self.suite(), ""

    def suite(self) -> str:
        """Return the agreed cipher suite."""
        return _OPENSSL_NAMES.get(str(self._buffer.cipher()), "")

    def _do(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Let the library work, with as much of what was fed as it wants."""
        while True:
            try:
                return work(*arguments)
            except tls.WantWriteError:
                return None  # a step of the handshake is done, and has written something
            except tls.WantReadError:
                # What a timer wrote came before the library looked at its input.
                if not (self._collect() or self._feed_more()):
                    raise WantInputError from None
            except tls.HelloVerifyRequest:
                raise CookieAskedError from None
            except TLSError as error:
                raise _outcome(error) from None
            finally:
                self._collect()

    def _collect(self) -> bool:
        data = self._buffer.peek_outgoing(_READ_BYTES)
        self._buffer.consume_outgoing(len(data))
        self._written += data
        return bool(data)

    def _feed_more(self) -> bool:
        """Give the library, which has used up what it had, the next piece."""
        chunk = bytes(self._fed[:CHUNK_BYTES])
        del self._fed[:CHUNK_BYTES]
        self._buffer.receive_from_network(chunk)
        return bool(chunk)

    def _read_into(self, room: memoryview) -> int:
        return int(self._do(self._buffer.readinto, room, len(room)))

    def _note_end(self, outcome: Exception, filled: int) -> None:
        """Raise it now if no byte came before it; else keep it for the next read, unless it is only a pause."""
        if not isinstance(outcome, WantInputError):
            self._read_end = without_traceback(outcome)
        if not filled:
            raise outcome


def _outcome(error: TLSError) -> Exception:
    code: int = getattr(error, "err", None) or 0  # the library's stub leaves it out
    if code == _PEER_CLOSED:
        return PeerClosedError()
    return OpenSslError(_REASONS.get(code) or error.msg.removeprefix("SSL - ") or type(error).__name__)


def client_context(suites: tuple[str, ...], key: tuple[str, bytes], *, datagrams: bool) -> Context:
    """Return a client's context, for this identity and its key."""
    return tls.ClientContext(_configuration(suites, datagrams, pre_shared_key=key))


def server_context(suites: tuple[str, ...], keys: Mapping[str, bytes], *, datagrams: bool) -> Context:
    """Return a server's context. Of the mapping, only subscription is used, during handshakes."""
    return tls.ServerContext(_configuration(suites, datagrams, pre_shared_key_store=keys))


def _configuration(
    suites: tuple[str, ...], datagrams: bool, **keys: Any
) -> tls.TLSConfiguration | tls.DTLSConfiguration:
    """Set floor, ceiling and suites: Mbed TLS's own go down to TLS 1.0 and to suites without a PSK."""
    common = {"ciphers": [SUITES[suite][0] for suite in suites], "validate_certificates": True, **keys}
    if datagrams:
        dtls = tls.DTLSVersion.DTLSv1_2
        return tls.DTLSConfiguration(lowest_supported_version=dtls, highest_supported_version=dtls, **common)
    version = tls.TLSVersion.TLSv1_2
    return tls.TLSConfiguration(lowest_supported_version=version, highest_supported_version=version, **common)
