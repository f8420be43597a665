"""One Mbed TLS session over datagrams: cookies, timers and the boundaries of records."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

from mcbn_workload.channels.mbedtls_session import (
    CHUNK_BYTES,
    NO_COMMON_SUITE,
    SUITES,
    Context,
    CookieAskedError,
    StreamSession,
)
from mcbn_workload.channels.openssl import (
    RECORD_HEADER,
    OpenSslError,
    PeerClosedError,
    WantInputError,
    without_traceback,
)

_FIRST_WAIT: Final = 1.0  # seconds: RFC 6347 section 4.2.4.1
_LONGEST_WAIT: Final = 60.0
RECORDS_MAX: Final = 32  # of one datagram; a flight has six. Each costs a turn of the library, whoever made it up
_MARGIN: Final = 0.002  # Mbed TLS counts whole milliseconds


class DatagramSession(StreamSession):
    """A session over DTLS; the counterpart of `openssl.DatagramConnection`.

    Mbed TLS sends a lost flight again by itself, with doubled waits, whenever it is asked to go on after its timer's
    end. Its timer reads the system's clock; here is only remembered when to ask.
    """

    def __init__(self, context: Context, *, mtu: int) -> None:
        super().__init__(context)
        self._buffer.setmtu(mtu)
        self._mtu = mtu
        self._records: deque[bytes] = deque()
        self._wait = _FIRST_WAIT
        self._due: float | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take one datagram, record by record. One that no record can fill is dropped, and records beyond a number."""
        if len(data) <= CHUNK_BYTES:
            self._records.extend(islice(split_records(bytes(data)), RECORDS_MAX))

    def answer(self, datagram: bytes | bytearray | memoryview, address: bytes) -> bool:
        """Judge a ClientHello, as a server (RFC 6347 section 4.2.1), without keeping anything.

        Returns:
            True if it has the right cookie: go on with `handshake`. False with a HelloVerifyRequest to send, with an
            alert where there is nothing in common, or with nothing.
        """
        self._buffer.start_over()
        self._buffer.setcookieparam(address)
        self._records.clear()
        self.feed(datagram)
        try:
            while self._buffer.greeting:
                self._do(self._buffer.do_handshake)
        except CookieAskedError:
            return False
        except (WantInputError, OpenSslError) as outcome:
            if str(outcome) != NO_COMMON_SUITE:
                self.outgoing()  # nothing is worth an answer that may be larger than its question
            return False
        return True

    def handshake(self) -> None:
        """Go on with the handshake; see `StreamSession.handshake`."""
        before = len(self._written)
        try:
            super().handshake()
        finally:
            if len(self._written) > before:
                self._wait = _FIRST_WAIT
                self._due = time.monotonic() + self._wait + _MARGIN

    @property
    def max_plaintext(self) -> int:
        """How many bytes fit into one datagram, once the handshake has chosen a cipher suite."""
        _theirs, growth = SUITES[self.suite()]
        return self._mtu - RECORD_HEADER - growth

    def read_record(self) -> bytes:
        """Decrypt one record of what was fed. What does not verify is skipped, as if it had not arrived.

        Raises:
            WantInputError: Nothing is left.
            PeerClosedError: The peer has sent close_notify.
            OpenSslError: The peer sent a fatal alert.
        """
        if self._read_end is not None:
            raise without_traceback(self._read_end)
        room = bytearray(CHUNK_BYTES)
        try:
            return bytes(room[: self._read_into(memoryview(room))])
        except (PeerClosedError, OpenSslError) as outcome:
            self._read_end = without_traceback(outcome)
            raise

    def datagrams(self) -> list[bytearray]:
        """Take what Mbed TLS has written, record by record: each may travel as a datagram (RFC 6347 section 4.1)."""
        return [bytearray(record) for record in split_records(bytes(self.outgoing()))]

    def next_timeout(self) -> float | None:
        """Seconds until `on_timeout` is due; None when nothing waits for an answer."""
        if self._due is None or self._buffer.over:
            return None
        return max(0.0, self._due - time.monotonic())

    def on_timeout(self) -> None:
        """Send the last flight again (RFC 6347 section 4.2.4).

        Raises:
            OpenSslError: It was sent too often.
        """
        if self.next_timeout() != 0.0:
            return
        before, wait = len(self._written), self._wait
        with suppress(WantInputError):
            self.handshake()
        sent = len(self._written) > before
        self._wait = min(2 * wait, _LONGEST_WAIT) if sent else wait
        self._due = time.monotonic() + (self._wait if sent else _FIRST_WAIT) + _MARGIN

    def _feed_more(self) -> bool:
        while self._records:
            record = self._records.popleft()
            if not (self._buffer.over and _is_plaintext(record)):
                self._buffer.receive_from_network(record)
                return True
        return False


def split_records(datagram: bytes) -> Iterator[bytes]:
    """Cut a datagram into its records; the last one is whatever is left."""
    start = 0
    while start < len(datagram):
        end = start + RECORD_HEADER + int.from_bytes(datagram[start + RECORD_HEADER - 2 : start + RECORD_HEADER], "big")
        yield datagram[start:end]
        start = end


def _is_plaintext(record: bytes) -> bool:
    """Whether it is of epoch 0. After the handshake Mbed TLS would let a new ClientHello end the session."""
    return record[3:5] == b"\0\0"
