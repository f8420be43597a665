"""HTTP/1.1 with limits: uvicorn's httptools protocol takes in anything and waits for ever; this one does not."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEADER_BYTES: Final = 16 * 1024
_ANSWER: Final = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TIMED_OUT: Final = b"408 Request Timeout"
_HEADERS_TOO_LARGE: Final = b"431 Request Header Fields Too Large"


class NotHereError(Exception):
    """HTTP that a broker's clients never use: the parser stops where it is raised, and the connection ends."""


class DeadlineProtocol(HttpToolsProtocol):
    """Ends a connection that is too slow, or of whose request all but the body passes 16 KiB.

    Headers, then the body, have to arrive in time, and the client has to read what it asked for in time. A request that
    is sent before the last one was answered (RFC 9112 section 9.3.2), or that has trailers (section 7.1.2), ends the
    connection: uvicorn would queue the one and keep the other, however many there are. Subclass it with `bound_to`;
    uvicorn makes the instances and passes no arguments of ours.

    Attributes:
        when_lost: Called once the connection has ended.
    """

    header_seconds: ClassVar[float]
    body_seconds: ClassVar[float]
    write_seconds: ClassVar[float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # uvicorn's own signature, passed on
        super().__init__(*args, **kwargs)
        self.when_lost: Callable[[], None] = _nothing
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._besides_body = 0  # bytes of this request: headers, chunk sizes, trailers
        self._in_headers = True

    @classmethod
    def bound_to(cls, *, header_seconds: float, body_seconds: float, write_seconds: float) -> type["DeadlineProtocol"]:
        """Return the class with these deadlines, in seconds."""
        deadlines = {"header_seconds": header_seconds, "body_seconds": body_seconds, "write_seconds": write_seconds}
        return type(cls.__name__, (cls,), deadlines)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Start waiting for the first request."""
        super().connection_made(transport)
        self._wait(self.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop()
        self._stop_waiting_for_reader()
        super().connection_lost(exc)
        self.when_lost()

    def data_received(self, data: bytes) -> None:
        """Start waiting for the headers of a further request on a kept connection, and count what is no body."""
        if self._answered() and self._deadline is None:
            self._wait(self.header_seconds)
        self._besides_body += len(data)
        super().data_received(data)
        if self._besides_body > _HEADER_BYTES:
            self._end(_HEADERS_TOO_LARGE)
        self._wait_for_reader()

    def on_message_begin(self) -> None:
        """A request begins, which is none of the last one's business.

        Raises:
            NotHereError: The last one has not been answered.
        """
        if not self._answered():
            raise NotHereError("pipelining")
        self._in_headers = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header.

        Raises:
            NotHereError: It comes after the body.
        """
        if not self._in_headers:
            raise NotHereError("trailers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start waiting for the body."""
        self._in_headers = False
        self._wait(self.body_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, whose own limit is the application's, until it has answered."""
        if not self._answered():
            self._besides_body -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is here."""
        self._besides_body = 0
        self._stop()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """End the connection, with words only where they would not stand within another request's answer."""
        if self._answered():
            super().send_400_response(msg)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        """Start waiting for the client to read the answer, if the system's own buffers did not take all of it."""
        super().on_response_complete()
        self._wait_for_reader()

    def pause_writing(self) -> None:
        """Start waiting for the client to read."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """The client has read."""
        self._stop_waiting_for_reader()
        super().resume_writing()

    def _wait_for_reader(self) -> None:
        if self._unread is None and self.transport.get_write_buffer_size():
            self._unread = self.loop.call_later(self.write_seconds, self._never_read)

    def _stop_waiting_for_reader(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _never_read(self) -> None:
        self._unread = None
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # close() would wait for the reader again

    def _wait(self, seconds: float) -> None:
        self._stop()
        self._deadline = self.loop.call_later(seconds, self._expired)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _expired(self) -> None:
        self._deadline = None
        self._end(_TIMED_OUT)

    def _end(self, status: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._answered():
            self.transport.write(_ANSWER % status)
        self.transport.close()
        self._wait_for_reader()


def _nothing() -> None:
    pass
