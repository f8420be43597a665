"""One stream connection of an event loop with flow control both ways, whatever the bytes mean."""

import asyncio
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Final, cast

RECEIVE_BYTES: Final = 64 * 1024
UNREAD_BYTES_MAX: Final = 128 * 1024  # received and not yet consumed: above this the peer has to wait
WRITE_BUFFER_BYTES: Final = 128 * 1024  # written and not yet taken by the kernel: above this `drain` waits
# A peer that vanished without a word is found within about a minute, also when nobody writes.
KEEPALIVE_IDLE_SECONDS: Final = 30
KEEPALIVE_INTERVAL_SECONDS: Final = 10
KEEPALIVE_PROBES: Final = 3
LOOK_SECONDS: Final = 10.0  # between two looks at a connection that nobody reads, for which no event loop watches

_LINGER_RESET: Final = struct.pack("ii", 1, 0)


class _ReceiveBuffer(threading.local):
    """One for all connections of a thread: an event loop fills it and has it emptied before it turns to another one."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(RECEIVE_BYTES))


_RECEIVED: Final = _ReceiveBuffer()


class Wire(asyncio.BufferedProtocol):
    """A TCP or unix connection.

    `received` is called with each piece that arrives, in a buffer that all connections share; `made` and `lost` once
    each. Reading pauses while more than `UNREAD_BYTES_MAX` have arrived since the last `consumed`. A TCP connection
    that fails meanwhile is found within `LOOK_SECONDS`, and what the kernel still has of it is dropped.
    """

    def __init__(
        self,
        received: Callable[[memoryview], None],
        *,
        made: Callable[[], None] | None = None,
        lost: Callable[[], None] | None = None,
    ) -> None:
        self._received = received
        self._made = made
        self._lost = lost
        self._buffer = _RECEIVED.view
        self._transport: asyncio.Transport | None = None
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._gone = asyncio.Event()
        self._unread = 0
        self._paused = False
        self._look_later: asyncio.TimerHandle | None = None
        self._abort_later: asyncio.TimerHandle | None = None
        self.peer = "unconnected"
        self.eof = False  # nothing more will arrive: the peer's FIN, or the end of the connection
        self.error: Exception | None = None  # why the connection was lost, if the kernel gave a reason

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport over."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.peer = _name_of(transport)
        if (tcp := self._tcp_socket()) is not None:
            _keep_alive(tcp)
        if self._made is not None:
            self._made()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the event loop's signature
        """Lend the buffer for the next receive."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what arrived, and hold the peer back when nobody reads it."""
        self._unread += nbytes
        self._received(self._buffer[:nbytes])
        self._arrived.set()
        if self._unread >= UNREAD_BYTES_MAX and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()
            self._look_again()

    def eof_received(self) -> bool:
        """Keep our own direction open after the peer's FIN."""
        self.eof = True
        self._arrived.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits."""
        self.eof, self.error = True, self.error or exc
        for timer in (self._abort_later, self._look_later):
            if timer is not None:
                timer.cancel()
        self.wake()
        self._gone.set()
        if self._lost is not None:
            self._lost()
        # The owner refers to this object: without the way back, its memory goes as soon as the owner does.
        self._received, self._made, self._lost = _ignore, None, None

    def pause_writing(self) -> None:
        """Make `drain` wait."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Let `drain` go on."""
        self._writable.set()

    # What the owner calls.

    @property
    def connected(self) -> bool:
        """Whether bytes can still be sent."""
        return self._transport is not None and not self._transport.is_closing() and not self._gone.is_set()

    def send(self, chunks: Iterable[bytes | bytearray]) -> None:
        """Transmit in order; on a connection that has ended, drop."""
        if self._transport is None or not self.connected:
            return
        for chunk in chunks:
            self._transport.write(chunk)

    def send_eof(self) -> None:
        """Send FIN after everything sent so far."""
        if self._transport is not None and self.connected:
            self._transport.write_eof()

    async def drain(self) -> None:
        """Wait until the kernel has taken enough of what was sent, or the connection has ended."""
        await self._writable.wait()

    async def flushed(self) -> None:
        """Wait until the kernel has taken everything that was sent, or the connection has ended. Nothing follows."""
        if self._transport is not None and self.connected:
            self._transport.set_write_buffer_limits(high=0)
        await self.drain()

    async def arrival(self) -> None:
        """Wait until something arrives after this call, or nothing more will."""
        if not self.eof:
            self._arrived.clear()
            await self._arrived.wait()

    def consumed(self) -> None:
        """Say that everything received has been used; the peer may send on."""
        self._unread = 0
        if self._paused and self._transport is not None and self.connected:
            self._paused = False
            if self._look_later is not None:
                self._look_later.cancel()
            self._transport.resume_reading()

    def wake(self) -> None:
        """Let `drain` and `arrival` return, so that their callers look at the state again."""
        self._arrived.set()
        self._writable.set()

    def close(self, seconds: float) -> None:
        """Close once everything sent is with the kernel; drop it if that takes longer than `seconds`."""
        if self._transport is None or not self.connected:
            return
        self._transport.close()
        self._abort_later = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def abort(self) -> None:
        """Close at once; on TCP with a reset, so that the peer cannot take it for the end of the data."""
        if self._transport is None or self._gone.is_set():
            return
        if (tcp := self._tcp_socket()) is not None:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self._transport.abort()
        self.wake()

    async def gone(self) -> None:
        """Wait until the event loop has let go of the connection."""
        if self._transport is not None:
            await self._gone.wait()

    def _look_again(self) -> None:
        self._look_later = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Find out whether a connection that is not being read has failed.

        A peer that sent FIN before (EPIPE, tcp_reset in Linux's net/ipv4/tcp_input.c) has sent everything: it stays.
        """
        tcp = self._tcp_socket()
        if tcp is None or self._transport is None:
            return
        failure = tcp.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure in {0, errno.EPIPE}:
            self._look_again()
        else:
            self.error = OSError(failure, os.strerror(failure))
            self._transport.abort()

    def _tcp_socket(self) -> socket.socket | None:
        raw = self._transport.get_extra_info("socket") if self._transport is not None else None
        if raw is None or raw.fileno() < 0 or raw.family not in {socket.AF_INET, socket.AF_INET6}:
            return None
        return cast("socket.socket", raw)


def _ignore(_data: memoryview) -> None:
    """Stand in for the owner once the connection is lost."""


def _keep_alive(tcp: socket.socket) -> None:
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def _name_of(transport: asyncio.BaseTransport) -> str:
    address = transport.get_extra_info("peername")
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else (address or "a local process")
