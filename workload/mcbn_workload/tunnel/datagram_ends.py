"""The two ends of a UDP tunnel: one channel for each peer of the application, one datagram in each of its datagrams."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

from mcbn_workload.channels.attempts import newest_first, none_older
from mcbn_workload.channels.datagram_listener import DatagramServer, serve_datagram_channels
from mcbn_workload.channels.datagrams import DatagramChannel, open_datagram_channel
from mcbn_workload.channels.engine import Acceptor, DatagramEngineFactory, OlderDatagramEngine
from mcbn_workload.channels.errors import ChannelClosedError, ChannelLimitError, forget_frames
from mcbn_workload.channels.registry import ChannelRegistry, Guard, Limits
from mcbn_workload.channels.throttle import Throttle
from mcbn_workload.errors import ConfigurationError, WorkloadError
from mcbn_workload.tunnel.accounts import CANCELLED, COMPLETED, TunnelStats, log_end, log_open
from mcbn_workload.tunnel.addresses import LoopbackAddress, PlainAddress, PlaintextAddressError
from mcbn_workload.tunnel.plain import PlaintextError

_log: Final = logging.getLogger("mcbn.workload.tunnel")

WAITING_DATAGRAMS_MAX: Final = 64  # of one application peer, until its channel's handshake is through
REFUSAL_LOG_SECONDS: Final = 10.0

Address = tuple[Any, ...]
_Receiver = Callable[[bytes, Address], None]


class _PlainSocket(asyncio.DatagramProtocol):
    """The application's side: a socket on loopback."""

    def __init__(self, received: _Receiver) -> None:
        self._received = received
        self._transport: asyncio.DatagramTransport | None = None
        self._blocked = False
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        host, port = transport.get_extra_info("sockname")[:2]
        self.address = str(LoopbackAddress(host, port))

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._received(data, addr)

    def error_received(self, exc: Exception) -> None:
        _log.debug("the application does not listen: %s", exc)  # a datagram is lost, as on any network

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False

    def send(self, data: bytes, addr: Address | None = None) -> bool:
        """Send; returns False where the kernel does not keep up, and the datagram is dropped."""
        if self._transport is None or self._blocked or self._transport.is_closing():
            return False
        self._transport.sendto(data, addr)
        return True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Session:
    """One application peer and its channel."""

    def __init__(self, channel: DatagramChannel, stats: TunnelStats, refusals: Throttle) -> None:
        self._channel = channel
        self._stats = stats
        self._refusals = refusals
        self._sent = 0
        self._received = 0

    @property
    def over(self) -> bool:
        """Whether the channel has ended, so that the next datagram needs another one."""
        return self._channel.reason is not None

    async def run(self, hand_over: Callable[[bytes], bool]) -> None:
        """Hand over what the channel brings, until it ends."""

        def take(data: bytes) -> None:
            if hand_over(data):
                self._received += len(data)
                self._stats.received += len(data)
            else:
                self._stats.dropped += 1

        self._stats.open += 1
        log_open(self._channel.peer, self._channel.negotiated, self._channel.epoch)
        code, text = CANCELLED, "this end stops"
        try:
            self._channel.deliver_to(take)
            reason = await self._channel.gone()
            code, text = COMPLETED if isinstance(reason, ChannelClosedError) else reason.code, str(reason)
        finally:
            self._stats.open -= 1
            self._stats.dropped += self._channel.dropped
            self._stats.ended[code] += 1
            log_end(self._channel.peer, code, text, sent=self._sent, received=self._received)

    def send(self, data: bytes) -> None:
        """Send what the application gave. What does not fit is refused whole and counted: it is never cut."""
        try:
            self._channel.send(data)
        except ChannelLimitError as error:
            self._refuse(error)
        except WorkloadError:
            self._stats.dropped += 1
        else:
            self._sent += len(data)
            self._stats.sent += len(data)

    def _refuse(self, error: ChannelLimitError) -> None:
        self._stats.refused += 1
        if (held_back := self._refusals.admit()) is not None:
            _log.warning(
                "the application's datagram is refused: %s (%d more since the last such line)",
                error,
                held_back,
                extra={"event": "datagram_refused", "code": error.code, "refused": self._stats.refused},
            )


class DatagramTunnelServer:
    """A running server end; see `serve_datagram_tunnel`."""

    def __init__(self, target: LoopbackAddress) -> None:
        self._target = target
        self._server: DatagramServer | None = None
        self._refusals = Throttle(REFUSAL_LOG_SECONDS, asyncio.get_running_loop().time)
        self.stats: Final = TunnelStats()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The ciphertext addresses that it listens on."""
        return [] if self._server is None else self._server.addresses

    def attach(self, server: DatagramServer) -> None:
        """Take the listener over."""
        self._server = server

    async def aclose(self, grace: float) -> None:  # noqa: ARG002  # as the ends over streams have it
        """Accept nobody more, and close all channels; datagrams have no end that `grace` could wait for."""
        if self._server is not None:
            await self._server.aclose(0)

    async def forward(self, channel: DatagramChannel) -> None:
        """Forward one channel to the application, from a socket of its own."""
        session = _Session(channel, self.stats, self._refusals)
        plain = _PlainSocket(lambda data, _addr: session.send(data))
        loop = asyncio.get_running_loop()
        try:
            await loop.create_datagram_endpoint(lambda: plain, remote_addr=(self._target.host, self._target.port))
        except OSError as error:
            self.stats.ended[PlaintextError.code] += 1
            raise PlaintextError(f"no socket to the application at {self._target}: {error}") from error
        try:
            await session.run(plain.send)
        finally:
            plain.close()


@asynccontextmanager
async def serve_datagram_tunnel(
    host: str,
    port: int,
    target: PlainAddress,
    acceptor: Acceptor,
    *,
    guard: Guard,
    registry: ChannelRegistry,
    limits: Limits | None = None,
) -> AsyncIterator[DatagramTunnelServer]:
    """Accept channels on a ciphertext address and forward each to the application, while the block runs.

    Raises:
        ConfigurationError: an address cannot be used.
    """
    tunnel = DatagramTunnelServer(_udp(target))
    async with serve_datagram_channels(
        host, port, acceptor, tunnel.forward, guard=guard, registry=registry, limits=limits
    ) as server:
        tunnel.attach(server)
        yield tunnel


class _Peer:
    """One peer of the application at the client's end, and what it sent before its channel was there."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.session: _Session | None = None
        self.task: asyncio.Task[None] | None = None


class DatagramTunnelClient:
    """A running client end; see `connect_datagram_tunnel`."""

    def __init__(
        self,
        far_end: tuple[str, int],
        engine_factory: DatagramEngineFactory,
        group: asyncio.TaskGroup,
        *,
        guard: Guard,
        registry: ChannelRegistry,
        limits: Limits,
        older: OlderDatagramEngine,
    ) -> None:
        self._far_end = far_end
        self._engine_factory = engine_factory
        self._group = group
        self._guard = guard
        self._registry = registry
        self._limits = limits
        self._older = older
        self._plain = _PlainSocket(self._on_datagram)
        self._peers: dict[Address, _Peer] = {}
        self._stopping = False
        clock = asyncio.get_running_loop().time
        self._refusals = Throttle(REFUSAL_LOG_SECONDS, clock)
        self._failures = Throttle(REFUSAL_LOG_SECONDS, clock)
        self.stats: Final = TunnelStats()

    @property
    def addresses(self) -> list[str]:
        """The plaintext address that it listens on, as `127.0.0.1:PORT`."""
        return [self._plain.address]

    async def start(self, address: LoopbackAddress) -> None:
        """Listen for the application.

        Raises:
            ConfigurationError: the address cannot be used.
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.create_datagram_endpoint(lambda: self._plain, local_addr=(address.host, address.port))
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {address}: {error}") from error

    async def aclose(self, grace: float) -> None:  # noqa: ARG002  # as the ends over streams have it
        """Take no new peers, and close all channels; datagrams have no end that `grace` could wait for."""
        self._stopping = True
        for peer in self._peers.values():
            if peer.task is not None:
                peer.task.cancel()
        self._plain.close()

    def _on_datagram(self, data: bytes, addr: Address) -> None:
        peer = self._peers.get(addr)
        if peer is None or (peer.session is not None and peer.session.over):
            peer = self._new_peer(addr)
        if peer is None:
            self.stats.dropped += 1
        elif peer.session is not None:
            peer.session.send(data)
        elif len(peer.waiting) < WAITING_DATAGRAMS_MAX:
            peer.waiting.append(data)
        else:
            self.stats.dropped += 1

    def _new_peer(self, addr: Address) -> _Peer | None:
        if self._stopping or len(self._peers) >= self._limits.connections:
            return None
        peer = self._peers[addr] = _Peer()
        peer.task = self._group.create_task(self._forward(peer, addr))
        return peer

    def _let_go(self, peer: _Peer, addr: Address) -> None:
        if self._peers.get(addr) is peer:
            del self._peers[addr]

    async def _forward(self, peer: _Peer, addr: Address) -> None:
        """Contain every failure: one peer must not end the others."""
        try:
            async with await self._open_channel() as channel:
                peer.session = session = _Session(channel, self.stats, self._refusals)
                while peer.waiting:
                    session.send(peer.waiting.popleft())
                await session.run(lambda data: self._plain.send(data, addr))
        except WorkloadError as error:
            forget_frames(error)
        except Exception:  # noqa: BLE001  # logged with its traceback
            _log.exception("forwarding failed")
        finally:
            # At once, not in a callback of the task: a datagram that comes in between would wait for nobody.
            self._let_go(peer, addr)
            self.stats.dropped += len(peer.waiting)

    async def _open_channel(self) -> DatagramChannel:
        host, port = self._far_end
        try:
            return await newest_first(self._attempt, self._engine_factory, self._older)
        except WorkloadError as error:
            self.stats.ended[error.code] += 1
            if (held_back := self._failures.admit()) is not None:  # each datagram of the application tries again
                more = f" ({held_back} more since the last such line)" if held_back else ""
                _log.warning("no channel to %s:%d: %s%s", host, port, error, more, extra={"code": error.code})
            raise

    async def _attempt(self, engine_factory: DatagramEngineFactory) -> DatagramChannel:
        host, port = self._far_end
        return await open_datagram_channel(
            host, port, engine_factory, guard=self._guard, registry=self._registry, limits=self._limits
        )


@asynccontextmanager
async def connect_datagram_tunnel(
    listen: PlainAddress,
    far_end: tuple[str, int],
    engine_factory: DatagramEngineFactory,
    *,
    guard: Guard,
    registry: ChannelRegistry,
    limits: Limits | None = None,
    older: OlderDatagramEngine = none_older,
) -> AsyncIterator[DatagramTunnelClient]:
    """Take the application's datagrams, and forward each peer's through a channel of its own, while the block runs.

    Where the far end does not take the key of `engine_factory`, `older` is tried; see `newest_first`.

    Raises:
        ConfigurationError: an address cannot be used.
    """
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        tunnel = DatagramTunnelClient(
            far_end, engine_factory, group, guard=guard, registry=registry, limits=limits or Limits(), older=older
        )
        try:
            await tunnel.start(_udp(listen))
            yield tunnel
        except Exception as error:  # noqa: BLE001  # carried around the group, which would wrap the caller's exception
            failure = error
        finally:
            await tunnel.aclose(0)
    if failure is not None:
        raise failure


def _udp(address: PlainAddress) -> LoopbackAddress:
    if not isinstance(address, LoopbackAddress):
        raise PlaintextAddressError(
            f"{address}: a channel over datagrams needs ADDRESS:PORT on loopback, no socket path"
        )
    return address
