"""Many peers on one datagram port, each with an authenticated channel and a handler of its own."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from mcbn_workload.channels.datagrams import DatagramChannel
from mcbn_workload.channels.engine import Acceptor, DatagramEngine
from mcbn_workload.channels.errors import ChannelClosedError, ChannelLimitError, forget_frames
from mcbn_workload.channels.registry import ChannelRegistry, Guard, Limits
from mcbn_workload.errors import ConfigurationError, WorkloadError

_log: Final = logging.getLogger("mcbn.workload.channels")

RECEIVE_BYTES: Final = 4 * 1024 * 1024

_STOPPED: Final = "this end stops"

Address = tuple[Any, ...]
DatagramHandler = Callable[[DatagramChannel], Awaitable[None]]
"""Serves one authenticated channel; it is closed when the handler returns, and aborted when it raises."""


class DatagramServer(asyncio.DatagramProtocol):
    """A running listener; see `serve_datagram_channels`.

    Attributes:
        turned_away: How many strangers were not listened to, because the limit of connections was reached.
    """

    def __init__(
        self,
        acceptor: Acceptor,
        handler: DatagramHandler,
        group: asyncio.TaskGroup,
        *,
        limits: Limits,
        guard: Guard,
        registry: ChannelRegistry,
    ) -> None:
        self._acceptor = acceptor
        self._handler = handler
        self._group = group
        self._limits = limits
        self._guard = guard
        self._registry = registry
        self._channels: dict[Address, DatagramChannel] = {}
        self._handshaking: dict[DatagramChannel, None] = {}  # in order of arrival
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None
        self._blocked = False
        self._stopping = False
        self.turned_away = 0
        self.addresses: list[tuple[str, int]] = []

    @property
    def open_channels(self) -> int:
        """How many channels are open, handshakes included."""
        return len(self._channels)

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            ConfigurationError: the address cannot be used.
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.create_datagram_endpoint(lambda: self, local_addr=(host, port))
        except (OSError, UnicodeError, OverflowError) as error:
            raise ConfigurationError(f"cannot listen on {host!r}, port {port}: {error}") from error

    async def aclose(self, grace: float) -> None:
        """Accept nobody more, give the handlers `grace` seconds to end, then abort what is left."""
        self._stopping = True
        if self._tasks and grace > 0:
            await asyncio.wait(self._tasks, timeout=grace)
        for channel in list(self._channels.values()):
            channel.abort(ChannelClosedError(_STOPPED))
        for task in list(self._tasks):
            task.cancel()
        if self._transport is not None:
            self._transport.close()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket over, and ask for room for many peers' datagrams: the kernel caps it."""
        self._transport = cast("asyncio.DatagramTransport", transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        self.addresses = [transport.get_extra_info("sockname")[:2]]

    def datagram_received(self, data: bytes, addr: Address) -> None:
        """Hand a datagram to its peer's channel, or look whether a stranger may have one."""
        channel = self._channels.get(addr)
        if channel is not None:
            channel.feed(data)
        elif not self._stopping:
            self._judge(data, addr)

    def error_received(self, exc: Exception) -> None:
        """Drop what the network says about some earlier datagram: it does not say about whose."""

    def pause_writing(self) -> None:
        """Drop datagrams while the kernel does not keep up, as the network would."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Send again."""
        self._blocked = False

    # Inside.

    def _judge(self, data: bytes, addr: Address) -> None:
        if len(self._channels) >= self._limits.connections:
            self.turned_away += 1
            return
        engine = self._acceptor.accept(data, repr(addr).encode())
        for answer in self._acceptor.outgoing():
            self._send(answer, addr)
        if engine is not None:
            self._open(engine, addr)

    def _open(self, engine: DatagramEngine, addr: Address) -> None:
        if len(self._handshaking) >= self._limits.handshakes:
            next(iter(self._handshaking)).abort(
                ChannelLimitError("an unfinished handshake gave way to a newer connection")
            )
        channel = self._channels[addr] = DatagramChannel(
            engine,
            lambda datagram: self._send(datagram, addr),
            peer=f"{addr[0]}:{addr[1]}",
            limits=self._limits,
            guard=self._guard,
            registry=self._registry,
            ended=lambda channel: self._let_go(channel, addr),
        )
        self._handshaking[channel] = None
        task = self._group.create_task(self._serve(channel))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _let_go(self, channel: DatagramChannel, addr: Address) -> None:
        self._handshaking.pop(channel, None)
        if self._channels.get(addr) is channel:
            del self._channels[addr]

    async def _serve(self, channel: DatagramChannel) -> None:
        """Contain every failure: one peer, or one handler, must not end the others."""
        try:
            async with channel:
                await channel.handshake()
                self._handshaking.pop(channel, None)
                await self._handler(channel)
        except WorkloadError as error:
            forget_frames(error)  # the channel has logged it
        except Exception:  # noqa: BLE001  # logged with its traceback
            _log.exception("the handler of the channel with %s failed", channel.peer)

    def _send(self, datagram: bytes | bytearray, addr: Address) -> None:
        if self._transport is not None and not self._blocked and not self._transport.is_closing():
            self._transport.sendto(datagram, addr)


@asynccontextmanager
async def serve_datagram_channels(
    host: str,
    port: int,
    acceptor: Acceptor,
    handler: DatagramHandler,
    *,
    guard: Guard,
    registry: ChannelRegistry,
    limits: Limits | None = None,
) -> AsyncIterator[DatagramServer]:
    """Listen as long as the `async with` block runs; at its end every channel is aborted and every handler has ended.

    For a graceful end call `DatagramServer.aclose` in the block first.

    Args:
        host: the ciphertext address to listen on, a literal or a name.
        port: 0 for any free one; see `DatagramServer.addresses`.
        acceptor: turns strangers away until they show their address, then makes the server's engines.
        handler: serves one channel.
        guard: says whether the keys are live.
        registry: takes the channels in.
        limits: seconds and numbers that bound what peers can cost.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        server = DatagramServer(acceptor, handler, group, limits=limits or Limits(), guard=guard, registry=registry)
        try:
            await server.start(host, port)
            yield server
        except Exception as error:  # noqa: BLE001  # carried around the group, which would wrap the caller's exception
            failure = error
        finally:
            await server.aclose(0)
    if failure is not None:
        raise failure
