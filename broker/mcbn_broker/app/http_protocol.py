"""HTTP/1.1 with limits: uvicorn's httptools protocol waits for ever, for headers without end; this one does not."""

import asyncio
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEADER_BYTES: Final = 16 * 1024
_ANSWER: Final = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TIMED_OUT: Final = b"408 Request Timeout"
_HEADERS_TOO_LARGE: Final = b"431 Request Header Fields Too Large"


class DeadlineProtocol(HttpToolsProtocol):
    """Ends a connection whose headers pass 16 KiB, or whose headers, or then body, do not arrive in time.

    Subclass it with `bound_to`; uvicorn makes the instances and passes no arguments of ours.
    """

    header_seconds: ClassVar[float]
    body_seconds: ClassVar[float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # uvicorn's own signature, passed on
        super().__init__(*args, **kwargs)
        self._deadline: asyncio.TimerHandle | None = None
        self._header_bytes = 0

    @classmethod
    def bound_to(cls, *, header_seconds: float, body_seconds: float) -> type["DeadlineProtocol"]:
        """Return the class with these deadlines, in seconds."""
        return type(cls.__name__, (cls,), {"header_seconds": header_seconds, "body_seconds": body_seconds})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Start waiting for the first request."""
        super().connection_made(transport)
        self._wait(self.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start waiting for the headers of a further request on a kept connection, and count their bytes."""
        if self._answered():
            if self._deadline is None:
                self._wait(self.header_seconds)
            self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes > _HEADER_BYTES:
            self._end(_HEADERS_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """Start waiting for the body."""
        self._header_bytes = 0
        self._wait(self.body_seconds)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is here."""
        self._stop()
        super().on_message_complete()

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
