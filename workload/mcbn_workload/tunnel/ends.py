"""The two ends of a TCP tunnel: the server's, before the application's listener, and the client's, in place of it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mcbn_workload.channels.attempts import newest_first, none_older
from mcbn_workload.channels.engine import EngineFactory, OlderEngine
from mcbn_workload.channels.errors import forget_frames
from mcbn_workload.channels.listener import ChannelServer, serve_channels
from mcbn_workload.channels.registry import ChannelRegistry, Guard, Limits
from mcbn_workload.channels.streams import Channel, open_channel
from mcbn_workload.errors import WorkloadError
from mcbn_workload.tunnel.accounts import TunnelStats
from mcbn_workload.tunnel.addresses import PlainAddress
from mcbn_workload.tunnel.forwarding import Forwarding
from mcbn_workload.tunnel.plain import PlainListener, PlainStream, PlaintextError, listen_plain, open_plain

_log: Final = logging.getLogger("mcbn.workload.tunnel")


class TunnelServer:
    """A running server end; see `serve_tunnel`."""

    def __init__(self, target: PlainAddress) -> None:
        self._target = target
        self._server: ChannelServer | None = None
        self.stats: Final = TunnelStats()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The ciphertext addresses that it listens on."""
        return [] if self._server is None else self._server.addresses

    def attach(self, server: ChannelServer) -> None:
        """Take the listener over."""
        self._server = server

    async def aclose(self, grace: float) -> None:
        """Accept nothing more, give open connections `grace` seconds to end, then abort them."""
        if self._server is not None:
            await self._server.aclose(grace)

    async def forward(self, channel: Channel) -> None:
        """Forward one channel to the application."""
        try:
            plain = await open_plain(self._target)
        except PlaintextError as error:
            self.stats.ended[error.code] += 1
            raise
        await Forwarding(self.stats).run(plain, channel)


@asynccontextmanager
async def serve_tunnel(
    host: str,
    port: int,
    target: PlainAddress,
    engine_factory: EngineFactory,
    *,
    guard: Guard,
    registry: ChannelRegistry,
    limits: Limits | None = None,
) -> AsyncIterator[TunnelServer]:
    """Accept channels on a ciphertext address and forward each to the application, while the block runs.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    tunnel = TunnelServer(target)
    async with serve_channels(
        host, port, engine_factory, tunnel.forward, guard=guard, registry=registry, limits=limits
    ) as server:
        tunnel.attach(server)
        yield tunnel


class TunnelClient:
    """A running client end; see `connect_tunnel`."""

    def __init__(
        self,
        far_end: tuple[str, int],
        engine_factory: EngineFactory,
        group: asyncio.TaskGroup,
        *,
        guard: Guard,
        registry: ChannelRegistry,
        limits: Limits,
        older: OlderEngine,
    ) -> None:
        self._far_end = far_end
        self._engine_factory = engine_factory
        self._group = group
        self._guard = guard
        self._registry = registry
        self._limits = limits
        self._older = older
        self._listener: PlainListener | None = None
        self._open: dict[PlainStream, asyncio.Task[None]] = {}
        self._stopping = False
        self.stats: Final = TunnelStats()

    @property
    def addresses(self) -> list[str]:
        """The plaintext addresses that it listens on: `127.0.0.1:PORT`, or a socket's path."""
        return [] if self._listener is None else self._listener.addresses

    async def start(self, address: PlainAddress) -> None:
        """Listen for the application.

        Raises:
            ConfigurationError: the address cannot be used.
        """
        self._listener = await listen_plain(address, self._on_connection)

    async def aclose(self, grace: float) -> None:
        """Accept nothing more, give open connections `grace` seconds to end, then abort them."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        running = set(self._open.values())
        if running and grace > 0:
            await asyncio.wait(running, timeout=grace)
        for task in list(self._open.values()):
            task.cancel()

    def _on_connection(self, plain: PlainStream) -> None:
        if self._stopping or len(self._open) >= self._limits.connections:
            plain.abort(PlaintextError("no more connections are taken"))
            _log.warning("a connection of the application was refused: stopping, or %d are open", len(self._open))
            return
        task = self._group.create_task(self._forward(plain))
        self._open[plain] = task
        task.add_done_callback(lambda _task: self._open.pop(plain, None))

    async def _forward(self, plain: PlainStream) -> None:
        """Contain every failure: one connection must not end the others."""
        try:
            channel = await self._open_channel()
            await Forwarding(self.stats).run(plain, channel)
        except WorkloadError as error:
            plain.abort(error)
            forget_frames(error)
        except Exception as error:  # noqa: BLE001  # logged with its traceback
            plain.abort(PlaintextError(f"the tunnel failed ({type(error).__name__})"))
            _log.exception("forwarding failed")
        except asyncio.CancelledError:
            plain.abort(PlaintextError("the tunnel stops"))
            raise

    async def _open_channel(self) -> Channel:
        host, port = self._far_end
        try:
            return await newest_first(self._attempt, self._engine_factory, self._older)
        except WorkloadError as error:
            self.stats.ended[error.code] += 1
            _log.warning("no channel to %s:%d: %s", host, port, error, extra={"code": error.code})
            raise

    async def _attempt(self, engine_factory: EngineFactory) -> Channel:
        host, port = self._far_end
        return await open_channel(
            host, port, engine_factory, guard=self._guard, registry=self._registry, limits=self._limits
        )


@asynccontextmanager
async def connect_tunnel(
    listen: PlainAddress,
    far_end: tuple[str, int],
    engine_factory: EngineFactory,
    *,
    guard: Guard,
    registry: ChannelRegistry,
    limits: Limits | None = None,
    older: OlderEngine = none_older,
) -> AsyncIterator[TunnelClient]:
    """Accept the application's connections and forward each through a channel of its own, while the block runs.

    Where the far end does not take the key of `engine_factory`, `older` is tried; see `newest_first`.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        tunnel = TunnelClient(
            far_end, engine_factory, group, guard=guard, registry=registry, limits=limits or Limits(), older=older
        )
        try:
            await tunnel.start(listen)
            yield tunnel
        except Exception as error:  # noqa: BLE001  # carried around the group, which would wrap the caller's exception
            failure = error
        finally:
            await tunnel.aclose(0)
    if failure is not None:
        raise failure
