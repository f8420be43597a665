"""The tunnel's plaintext end: a stream on loopback or a unix socket, with the same calls as a channel."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mcbn_workload.channels.wire import Wire
from mcbn_workload.errors import ConfigurationError, ExitCode, WorkloadError
from mcbn_workload.tunnel.addresses import PlainAddress, UnixAddress

CONNECT_SECONDS: Final = 5.0


class PlaintextError(WorkloadError):
    """The application's side of the tunnel failed: not reachable, reset, or gone while we were writing."""

    code = "plaintext_failed"
    exit_code = ExitCode.CHANNEL


class PlainStream:
    """One connection with the application. A failure or `abort` is raised by all calls from then on."""

    def __init__(self, made: Callable[["PlainStream"], None] | None = None) -> None:
        self._chunks: deque[bytes] = deque()
        self._made = made
        self.reason: WorkloadError | None = None
        self.wire: Final = Wire(self._receive, made=self._on_made)

    async def read(self) -> bytes:
        """Wait for bytes; `b""` after the application's FIN.

        Raises:
            WorkloadError: the connection was reset, or aborted for this reason.
        """
        while not self._chunks:
            self._require_sound()
            if self.wire.eof:
                return b""
            self.wire.consumed()
            await self.wire.arrival()
        return self._chunks.popleft()

    async def write(self, data: bytes) -> None:
        """Send, and wait while the application does not keep up.

        Raises:
            WorkloadError: the connection was reset or is gone, or was aborted for this reason.
        """
        self._require_connected()
        self.wire.send([data])
        await self.wire.drain()
        self._require_sound()

    async def write_eof(self) -> None:
        """Send FIN, and wait until the kernel has everything; reading goes on.

        Raises:
            WorkloadError: the connection was reset or is gone, or was aborted for this reason.
        """
        self._require_connected()
        self.wire.send_eof()
        await self.wire.flushed()
        self._require_sound()

    async def close(self, seconds: float) -> None:
        """Close once the kernel has everything; drop it if that takes longer than `seconds`."""
        self.wire.close(seconds)
        await self.wire.gone()

    def abort(self, reason: WorkloadError) -> None:
        """Reset, so that the application cannot take it for the end of the data. A unix socket knows no reset."""
        if self.reason is None:
            self.reason = reason
        self.wire.abort()

    def _require_sound(self) -> None:
        if self.reason is None and self.wire.error is not None:
            self.reason = PlaintextError(f"the application's connection failed: {self.wire.error}")
        if self.reason is not None:
            raise self.reason.with_traceback(None)  # raised each time: its frames must not add up

    def _require_connected(self) -> None:
        self._require_sound()
        if not self.wire.connected:
            raise PlaintextError("the application has closed its connection")

    def _receive(self, data: memoryview) -> None:
        self._chunks.append(bytes(data))

    def _on_made(self) -> None:
        if self._made is not None:
            self._made(self)


async def open_plain(address: PlainAddress) -> PlainStream:
    """Connect to the application.

    Raises:
        PlaintextError: it does not accept within `CONNECT_SECONDS`.
    """
    loop = asyncio.get_running_loop()
    stream = PlainStream()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            if isinstance(address, UnixAddress):
                await loop.create_unix_connection(lambda: stream.wire, address.path)
            else:
                await loop.create_connection(lambda: stream.wire, address.host, address.port)
    except OSError as error:  # TimeoutError is one
        raise PlaintextError(f"the application at {address} does not accept: {str(error) or 'no answer'}") from error
    return stream


class PlainListener:
    """A listening plaintext end."""

    def __init__(self, server: asyncio.Server, address: PlainAddress) -> None:
        self._server = server
        self._address = address
        names = [item.getsockname() for item in server.sockets]
        self.addresses = [name if isinstance(name, str) else f"{name[0]}:{name[1]}" for name in names]

    def close(self) -> None:
        """Stop accepting, and remove a unix socket's path."""
        self._server.close()
        if isinstance(self._address, UnixAddress):
            with contextlib.suppress(FileNotFoundError):
                Path(self._address.path).unlink()


async def listen_plain(address: PlainAddress, made: Callable[[PlainStream], None]) -> PlainListener:
    """Accept the application's connections; `made` gets each one.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    loop = asyncio.get_running_loop()

    def accept() -> Wire:
        return PlainStream(made).wire

    try:
        if isinstance(address, UnixAddress):
            server = await loop.create_unix_server(accept, address.path)
        else:
            server = await loop.create_server(accept, address.host, address.port)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {address}: {error}") from error
    return PlainListener(server, address)
