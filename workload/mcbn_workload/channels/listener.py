"""A listener whose connections become authenticated channels, each with a handler of its own."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from mcbn_workload.channels.engine import EngineFactory
from mcbn_workload.channels.errors import ChannelClosedError, ChannelLimitError, forget_frames
from mcbn_workload.channels.registry import ChannelRegistry, Guard, Limits
from mcbn_workload.channels.streams import Channel
from mcbn_workload.channels.wire import Wire
from mcbn_workload.errors import ConfigurationError, WorkloadError

_log: Final = logging.getLogger("mcbn.workload.channels")

_STOPPED: Final = "this end stops"

Handler = Callable[[Channel], Awaitable[None]]
"""Serves one authenticated channel; it is closed when the handler returns, and aborted when it raises."""


class ChannelServer:
    """A running listener; see `serve_channels`."""

    def __init__(
        self,
        engine_factory: EngineFactory,
        handler: Handler,
        group: asyncio.TaskGroup,
        *,
        limits: Limits,
        guard: Guard,
        registry: ChannelRegistry,
    ) -> None:
        self._engine_factory = engine_factory
        self._handler = handler
        self._group = group
        self._limits = limits
        self._guard = guard
        self._registry = registry
        self._open: dict[Channel, asyncio.Task[None]] = {}
        self._handshaking: dict[Channel, None] = {}  # in order of arrival
        self._listener: asyncio.Server | None = None
        self._stopping = False
        self.addresses: list[tuple[str, int]] = []

    @property
    def open_channels(self) -> int:
        """How many connections are open, handshakes included."""
        return len(self._open)

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            ConfigurationError: the address cannot be used.
        """
        try:
            self._listener = await asyncio.get_running_loop().create_server(self._accept, host, port)
        except (OSError, UnicodeError, OverflowError) as error:
            raise ConfigurationError(f"cannot listen on {host!r}, port {port}: {error}") from error
        self.addresses = [item.getsockname()[:2] for item in self._listener.sockets]

    async def aclose(self, grace: float) -> None:
        """Stop listening, give the handlers `grace` seconds to end, then abort what is left."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        running = set(self._open.values())
        if running and grace > 0:
            await asyncio.wait(running, timeout=grace)
        for channel, task in list(self._open.items()):
            channel.abort(ChannelClosedError(_STOPPED))
            task.cancel()

    def _accept(self) -> Wire:
        engine = self._engine_factory()
        return Channel(
            engine, limits=self._limits, guard=self._guard, registry=self._registry, made=self._on_connection
        ).wire

    def _on_connection(self, channel: Channel) -> None:
        if self._stopping:
            channel.abort(ChannelClosedError(_STOPPED))
            return
        if len(self._open) >= self._limits.connections:
            channel.abort(ChannelLimitError(f"{self._limits.connections} connections are open already"))
            return
        if len(self._handshaking) >= self._limits.handshakes:
            # Silent peers must not keep honest ones out until their deadline.
            oldest = next(iter(self._handshaking))
            del self._handshaking[oldest]
            oldest.abort(ChannelLimitError("an unfinished handshake gave way to a newer connection"))
        self._handshaking[channel] = None
        task = self._group.create_task(self._serve(channel))
        self._open[channel] = task
        task.add_done_callback(lambda _task: self._open.pop(channel, None))

    async def _serve(self, channel: Channel) -> None:
        """Contain every failure: one peer, or one handler, must not end the others."""
        try:
            await self._authenticate(channel)
            async with channel:
                await self._handler(channel)
        except WorkloadError as error:
            forget_frames(error)  # the channel has logged it
        except Exception:  # noqa: BLE001  # logged with its traceback
            _log.exception("the handler of the channel with %s failed", channel.peer)

    async def _authenticate(self, channel: Channel) -> None:
        try:
            await channel.handshake()
        finally:
            self._handshaking.pop(channel, None)


@asynccontextmanager
async def serve_channels(
    host: str,
    port: int,
    engine_factory: EngineFactory,
    handler: Handler,
    *,
    guard: Guard,
    registry: ChannelRegistry,
    limits: Limits | None = None,
) -> AsyncIterator[ChannelServer]:
    """Listen as long as the `async with` block runs; at its end every channel is aborted and every handler has ended.

    For a graceful end call `ChannelServer.aclose` in the block first.

    Args:
        host: the ciphertext address to listen on, a literal or a name.
        port: 0 for any free one; see `ChannelServer.addresses`.
        engine_factory: makes the server's engines.
        handler: serves one channel.
        guard: says whether the keys are live.
        registry: takes the channels in.
        limits: seconds and numbers that bound what peers can cost.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        server = ChannelServer(
            engine_factory, handler, group, limits=limits or Limits(), guard=guard, registry=registry
        )
        try:
            await server.start(host, port)
            yield server
        except Exception as error:  # noqa: BLE001  # carried around the group, which would wrap the caller's exception
            failure = error
        finally:
            await server.aclose(0)
    if failure is not None:
        raise failure
