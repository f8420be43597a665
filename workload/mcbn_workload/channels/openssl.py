"""One OpenSSL connection over memory BIOs: the only module that touches pyOpenSSL's inner handles.

pyOpenSSL makes and owns every object. Its own `recv`, `send` and `bio_*` copy once more and raise for control flow, so
the bytes go through cryptography's binding of the same library directly.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL

from mcbn_workload.channels.errors import EngineUnavailableError

lib: Final[Any] = Binding.lib
ffi: Final[Any] = Binding.ffi

_READ_BYTES: Final = 64 * 1024
_RECORD_BYTES: Final = 16 * 1024
RECORD_HEADER: Final = 13  # RFC 6347 section 4.1: type, version, epoch, sequence number, length
_unused: Final = ffi.new("char **")  # takes an address that nobody reads
_unzeroed: Final = ffi.new_allocator(should_clear_after_alloc=False)


class WantInputError(Exception):
    """OpenSSL needs more from the peer. Control flow between this module and the engines; never leaves them."""


class PeerClosedError(Exception):
    """The peer has sent close_notify. Control flow between this module and the engines; never leaves them."""


class OpenSslError(Exception):
    """OpenSSL refused or failed. The text is the library's reason, which names no secret."""


_ErrorT = TypeVar("_ErrorT", bound=Exception)

PskServerCallback = Callable[[Any, Any, Any, int], int]
PskClientCallback = Callable[[Any, Any, Any, int, Any, int], int]


def require_psk() -> None:
    """Check that the library can do external PSKs.

    Raises:
        EngineUnavailableError: it was built without them.
    """
    if not (lib.Cryptography_HAS_PSK and lib.Cryptography_HAS_PSK_TLSv1_3):
        raise EngineUnavailableError(
            "the OpenSSL inside this image's `cryptography` package has no TLS 1.3 external PSKs: "
            "install the version that the lock file names"
        )


def set_groups(context: SSL.Context, groups: bytes) -> None:
    """Allow only these key exchange groups, in OpenSSL's list syntax, of which `*` marks those offered at once."""
    if lib.SSL_CTX_set1_curves_list(context._context, groups) != 1:  # noqa: SLF001  # pyOpenSSL has no setter
        raise OpenSslError(take_reason())


def set_psk_server(context: SSL.Context, callback: PskServerCallback) -> object:
    """Install a server's PSK callback. The returned object must live as long as the context and its connections."""
    kind = "unsigned int(SSL *, const char *, unsigned char *, unsigned int)"
    keep = ffi.callback(kind, callback, error=0)
    lib.SSL_CTX_set_psk_server_callback(context._context, keep)  # noqa: SLF001  # pyOpenSSL has no setter
    return keep


def set_psk_client(context: SSL.Context, callback: PskClientCallback) -> object:
    """Install a client's PSK callback. The returned object must live as long as the context and its connections."""
    kind = "unsigned int(SSL *, const char *, char *, unsigned int, unsigned char *, unsigned int)"
    keep = ffi.callback(kind, callback, error=0)
    lib.SSL_CTX_set_psk_client_callback(context._context, keep)  # noqa: SLF001  # pyOpenSSL has no setter
    return keep


def take_reason() -> str:
    """Empty this thread's error queue; return its oldest entry as text, or the empty string."""
    code = lib.ERR_get_error()
    lib.ERR_clear_error()
    text = lib.ERR_reason_error_string(code) if code else ffi.NULL
    return "" if text == ffi.NULL else ffi.string(text).decode("ascii", "replace")


def address_of(ssl: Any) -> int:
    """Name an `SSL *` that a callback was given; compare with `MemoryConnection.address`."""
    return int(ffi.cast("uintptr_t", ssl))


def without_traceback(error: _ErrorT) -> _ErrorT:
    """Copy an error in order to keep it.

    Once raised, it would hold the frames that hold its keeper: a cycle, and OpenSSL's memory, of which the garbage
    collector knows nothing, would wait for it.
    """
    return type(error)(*error.args)


class MemoryConnection:
    """An OpenSSL connection whose two directions are buffers in memory. Streams only: datagrams need boundaries."""

    def __init__(self, context: SSL.Context, *, server: bool) -> None:
        self._connection = SSL.Connection(context, None)
        if server:
            self._connection.set_accept_state()
        else:
            self._connection.set_connect_state()
        # pyOpenSSL's connection owns these three; it lives as long as this object.
        self._ssl = self._connection._ssl  # noqa: SLF001  # no public handle
        self._incoming = self._connection._into_ssl  # noqa: SLF001
        self._outgoing = self._connection._from_ssl  # noqa: SLF001
        self.address = address_of(self._ssl)
        self._read_end: Exception | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append ciphertext to what OpenSSL will read. It is copied."""
        size = len(data)
        # A memory BIO takes everything or fails for lack of memory.
        if size and lib.BIO_write(self._incoming, ffi.from_buffer(data), size) != size:
            raise OpenSslError(take_reason())

    def outgoing(self) -> bytearray:
        """Take the ciphertext that OpenSSL has written."""
        size = lib.BIO_get_mem_data(self._outgoing, _unused)
        data = bytearray(size)
        if size:
            lib.BIO_read(self._outgoing, ffi.from_buffer(data), size)
        return data

    def handshake(self) -> None:
        """Go on with the handshake; returns when it is complete.

        Raises:
            WantInputError: more must be fed first.
            PeerClosedError: close_notify instead of a handshake.
            OpenSslError: it failed.
        """
        try:
            self._connection.do_handshake()
        except SSL.WantReadError as error:
            raise WantInputError from error
        except SSL.ZeroReturnError as error:
            raise PeerClosedError from error
        except SSL.Error as error:
            raise OpenSslError(_reason_of(error)) from error

    def read(self, size: int) -> bytes:
        """Decrypt what was fed: at least one byte, at most `size` and at most 65536.

        Raises:
            WantInputError: more must be fed first.
            PeerClosedError: the peer has sent close_notify.
            OpenSslError: a record did not verify, or the peer sent a fatal alert.
        """
        if self._read_end is not None:
            raise without_traceback(self._read_end)
        limit, filled = min(size, _READ_BYTES), 0
        buffer = _unzeroed("char[]", limit)
        while filled < limit:
            lib.ERR_clear_error()
            count = lib.SSL_read(self._ssl, buffer + filled, limit - filled)
            if count <= 0:
                self._note_end(self._outcome(count), filled)
                break
            filled += count
        data: bytes = ffi.buffer(buffer, filled)[:]
        return data

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt one record; return how many bytes it took, which may be fewer than given.

        Raises:
            OpenSslError: the connection cannot write any more.
        """
        lib.ERR_clear_error()
        count: int = lib.SSL_write(self._ssl, ffi.from_buffer(data), len(data))
        if count <= 0:
            raise self._outcome(count)
        return count

    def close(self) -> None:
        """Send close_notify.

        Raises:
            OpenSslError: the connection has failed, such as by a bad record.
        """
        lib.ERR_clear_error()
        if lib.SSL_shutdown(self._ssl) < 0:
            raise OpenSslError(take_reason() or "a bad record or an alert came before")

    def used_psk(self) -> bool:
        """Whether the handshake was keyed by a PSK (OpenSSL counts an external PSK as a resumed session)."""
        return bool(lib.SSL_session_reused(self._ssl))

    def peer_has_certificate(self) -> bool:
        """Whether the peer authenticated with a certificate."""
        return self._connection.get_peer_certificate() is not None

    def facts(self) -> tuple[str, str, str]:
        """Return protocol version, cipher suite and group of a completed handshake; each empty where there is none."""
        connection = self._connection
        return (
            connection.get_protocol_version_name(),
            connection.get_cipher_name() or "",
            connection.get_group_name() or "",
        )

    def _outcome(self, result: int) -> Exception:
        error = lib.SSL_get_error(self._ssl, result)
        if error == lib.SSL_ERROR_WANT_READ:
            return WantInputError()
        if error == lib.SSL_ERROR_ZERO_RETURN:
            return PeerClosedError()
        return OpenSslError(take_reason() or f"SSL_get_error says {error}")

    def _note_end(self, outcome: Exception, filled: int) -> None:
        """Raise it now if no byte came before it; else keep it for the next read, unless it is only a pause."""
        if not isinstance(outcome, WantInputError):
            self._read_end = without_traceback(outcome)
        if not filled:
            raise outcome


class DatagramConnection(MemoryConnection):
    """An OpenSSL connection over DTLS, whose buffers in memory hold one datagram at a time."""

    def __init__(self, context: SSL.Context, *, server: bool, mtu: int) -> None:
        super().__init__(context, server=server)
        self._connection.set_ciphertext_mtu(mtu)

    def belongs_to(self, address: bytes) -> None:
        """Say from where the next datagrams come; the callbacks for cookies find it in the connection's app data."""
        self._connection.set_app_data(address)

    def answer(self) -> bool:
        """Judge a ClientHello that was fed, as a server (RFC 6347 section 4.2.1), without keeping anything.

        Returns:
            True if it has the right cookie: go on with `handshake`. False with a HelloVerifyRequest to send, or none.

        Raises:
            OpenSslError: It is none.
        """
        try:
            self._connection.DTLSv1_listen()
        except SSL.WantReadError:
            self._drop_input()
            return False
        except SSL.Error as error:
            raise OpenSslError(_reason_of(error)) from error
        return True

    def _drop_input(self) -> None:
        """Leave nothing of one stranger's datagram to be taken for the next one's."""
        while size := lib.BIO_get_mem_data(self._incoming, _unused):
            lib.BIO_read(self._incoming, _unzeroed("char[]", size), size)

    @property
    def max_plaintext(self) -> int:
        """How many bytes fit into one datagram, once the handshake has chosen a cipher suite."""
        return self._connection.get_cleartext_mtu()

    def read_record(self) -> bytes:
        """Decrypt one record of what was fed. What does not verify is skipped, as if it had not arrived.

        Raises:
            WantInputError: Nothing is left.
            PeerClosedError: The peer has sent close_notify.
            OpenSslError: The peer sent a fatal alert.
        """
        buffer = _unzeroed("char[]", _RECORD_BYTES)
        lib.ERR_clear_error()
        count = lib.SSL_read(self._ssl, buffer, _RECORD_BYTES)
        if count <= 0:
            raise self._outcome(count)
        data: bytes = ffi.buffer(buffer, count)[:]
        return data

    def datagrams(self) -> list[bytearray]:
        """Take what OpenSSL has written, record by record: each may travel as a datagram (RFC 6347 section 4.1)."""
        rest = memoryview(self.outgoing())
        records: list[bytearray] = []
        while rest:
            size = RECORD_HEADER + int.from_bytes(rest[RECORD_HEADER - 2 : RECORD_HEADER], "big")
            records.append(bytearray(rest[:size]))
            rest = rest[size:]
        return records

    def next_timeout(self) -> float | None:
        """Seconds until `on_timeout` is due; None when nothing waits for an answer."""
        return self._connection.DTLSv1_get_timeout()

    def on_timeout(self) -> None:
        """Send the last flight again (RFC 6347 section 4.2.4).

        Raises:
            OpenSslError: It was sent too often.
        """
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            raise OpenSslError(_reason_of(error)) from error


def _reason_of(error: SSL.Error) -> str:
    """Return the first reason in pyOpenSSL's list of (library, function, reason)."""
    entries = error.args[0] if error.args else []
    return next((str(entry[-1]) for entry in entries), "") if isinstance(entries, list) else str(error)
