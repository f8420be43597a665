"""A channel over datagrams: each `send` is one datagram at most, may be lost or overtaken, and is never cut."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, cast

from mcbn_workload.channels.ended_engine import EndedEngine
from mcbn_workload.channels.engine import DatagramEngine, DatagramEngineFactory, Negotiated
from mcbn_workload.channels.errors import ChannelClosedError, ChannelError, PeerUnreachableError
from mcbn_workload.channels.registry import ChannelRegistry, Guard, Limits
from mcbn_workload.errors import ConfigurationError, WorkloadError

_log: Final = logging.getLogger("mcbn.workload.channels")

UNREAD_DATAGRAMS_MAX: Final = 256  # received and not yet taken: more are dropped, as a full socket buffer would
_READ_BYTES: Final = 16 * 1024

Transmit = Callable[[bytes | bytearray], None]
"""Sends one datagram to the peer, or drops it."""

Sink = Callable[[bytes], None]
"""Takes what one datagram carried."""


class DatagramChannel:
    """One end of one authenticated channel.

    Every failure, also an `abort` from elsewhere, is raised by the calls that wait and by all later ones, and stays in
    `reason`. A channel without a datagram either way for `Limits.idle_seconds` ends: over datagrams a peer that has
    gone may leave no other trace, since its close_notify may be lost. A channel that has ended holds no key any more.

    Attributes:
        dropped: How many datagrams arrived that nobody took in time.
    """

    def __init__(
        self,
        engine: DatagramEngine,
        transmit: Transmit,
        *,
        peer: str,
        limits: Limits,
        guard: Guard,
        registry: ChannelRegistry,
        ended: Callable[["DatagramChannel"], None],
    ) -> None:
        self._engine: DatagramEngine = engine
        self._transmit = transmit
        self._limits = limits
        self._guard = guard
        self._registry = registry
        self._ended: Callable[[DatagramChannel], None] = ended
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[bytes] = deque()
        self._sink: Sink = self._keep
        self._wake = asyncio.Event()
        self._over = asyncio.Event()
        self._retransmit: asyncio.TimerHandle | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._active = self._loop.time()
        self._unreachable: Exception | None = None
        self._peer_closed = False
        self._reason: WorkloadError | None = None
        self.dropped = 0
        self.peer = peer
        registry.add(self)

    @property
    def negotiated(self) -> Negotiated:
        """What the handshake agreed on.

        Raises:
            ChannelClosedError: there was no handshake yet.
        """
        if self._engine.negotiated is None:
            raise ChannelClosedError("the channel's handshake is not complete")
        return self._engine.negotiated

    @property
    def identity(self) -> str | None:
        """What names the key that the peer proved to hold; None before the end of the handshake."""
        return None if self._engine.negotiated is None else self._engine.negotiated.identity

    @property
    def reason(self) -> WorkloadError | None:
        """Why this channel has ended; None while it is open."""
        return self._reason

    @property
    def epoch(self) -> int | None:
        """The epoch of the key; None before the end of the handshake, and where there are no epochs."""
        return self._registry.epoch_of(self.identity)

    async def handshake(self) -> None:
        """Complete the handshake, before any other call and within the limit.

        Raises:
            HandshakeError: the peer is not who it must be, or is silent.
            PeerUnreachableError: nothing listens there.
            WorkloadError: from the guard.
        """
        self._require_live()
        self._turn()
        try:
            async with asyncio.timeout(self._limits.handshake_seconds):
                while self._engine.negotiated is None:
                    await self._woken()
        except TimeoutError:
            error = self._why_stalled()
            self.abort(error)
            raise error from None
        if not self._peer_closed:  # already, after its first datagrams, which can still be received
            self._require_live()  # only now it is known whose key it is
        self._watch_idleness()

    async def receive(self) -> bytes:
        """Wait for a datagram.

        Returns:
            What it carried, at least one byte; `b""` once the peer has closed the channel.

        Raises:
            WorkloadError: the channel failed, or was ended for this reason.
        """
        while not self._arrived:
            if self._peer_closed:
                return b""
            await self._woken()
        return self._arrived.popleft()

    def deliver_to(self, sink: Sink) -> None:
        """Hand over each datagram as it arrives, beginning with those that wait; `receive` gets none any more."""
        while self._arrived:
            sink(self._arrived.popleft())
        self._sink = sink

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send one datagram, without waiting and without knowing whether it arrives.

        Raises:
            ChannelLimitError: it is empty or larger than `Negotiated.max_datagram`. The channel goes on.
            WorkloadError: the channel has ended for this reason.
        """
        self._require_live()
        self._active = self._loop.time()
        try:
            self._engine.write(data)
        finally:
            self._flush()

    def close(self) -> None:
        """Send close_notify and end. Does nothing on a channel that has ended."""
        self._end(ChannelClosedError("this end has closed the channel"))

    def abort(self, reason: WorkloadError) -> None:
        """End the channel at once, telling the peer if it can be told; the first reason stays."""
        if self._reason is None:
            self._registry.report(self, reason)
        self._end(reason)

    async def gone(self) -> WorkloadError:
        """Wait until the channel has ended; return why."""
        await self._over.wait()
        assert self._reason is not None  # noqa: S101  # `_end` sets both
        return self._reason

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif isinstance(error, WorkloadError):
            self.abort(error)
        else:
            self.abort(ChannelClosedError(f"the application gave up ({type(error).__name__})"))

    # What the endpoint calls.

    def feed(self, datagram: bytes) -> None:
        """Take what arrived from the peer's address. Whatever is not the peer's own is dropped there."""
        if self._reason is not None:
            return
        try:
            self._guard(self.identity)
        except WorkloadError as error:
            self.abort(error)
            return
        if self._reason is None:
            self._engine.feed(datagram)
            self._turn()

    def unreachable(self, error: Exception) -> None:
        """Take note that the network says so. It may be mistaken, so only a handshake that fails mentions it."""
        self._unreachable = error

    # Inside.

    def _turn(self) -> None:
        """Let the engine work on what arrived."""
        try:
            if self._engine.handshake():
                self._drain()
        except ChannelError as error:
            self._flush()  # the alert
            self.abort(error)
        finally:
            self._flush()
            self._arm()
            self._wake.set()

    def _drain(self) -> None:
        while self._reason is None and (data := self._engine.read(_READ_BYTES)) is not None:
            if not data:
                self._peer_closed = True
                self._end(ChannelClosedError("the peer has closed the channel"))
                return
            self._active = self._loop.time()
            self._sink(data)

    def _keep(self, data: bytes) -> None:
        if len(self._arrived) < UNREAD_DATAGRAMS_MAX:
            self._arrived.append(data)
        else:
            self.dropped += 1

    def _flush(self) -> None:
        for datagram in self._engine.outgoing():
            self._transmit(datagram)

    def _arm(self) -> None:
        """Wait for the time of the next retransmission, if there is one."""
        if self._retransmit is not None:
            self._retransmit.cancel()
            self._retransmit = None
        seconds = self._engine.next_timeout() if self._reason is None else None
        if seconds is not None:
            self._retransmit = self._loop.call_later(seconds, self._on_timeout)

    def _on_timeout(self) -> None:
        self._retransmit = None
        try:
            self._engine.on_timeout()
        except ChannelError as error:
            self.abort(error)
        self._turn()

    def _watch_idleness(self) -> None:
        left = self._active + self._limits.idle_seconds - self._loop.time()
        if self._reason is not None:
            return
        if left <= 0:
            self.abort(ChannelClosedError(f"no datagram either way for {self._limits.idle_seconds:g} s"))
        else:
            self._idle = self._loop.call_later(left, self._watch_idleness)

    def _why_stalled(self) -> ChannelError:
        if self._unreachable is not None:
            return PeerUnreachableError(f"nothing listens at {self.peer}: {self._unreachable}")
        return self._engine.stalled()

    async def _woken(self) -> None:
        self._require_live()
        self._wake.clear()
        await self._wake.wait()
        if not self._peer_closed:
            self._require_live()

    def _require_live(self) -> None:
        if self._reason is None:
            try:
                self._guard(self.identity)
            except WorkloadError as error:
                self.abort(error)
        if self._reason is not None:
            raise self._reason.with_traceback(None)  # raised each time: its frames must not add up

    def _end(self, reason: WorkloadError) -> None:
        if self._reason is not None:
            return
        self._reason = reason
        try:
            self._engine.close()
        except ChannelError as error:
            _log.debug("%s is not told that the channel ends: %s", self.peer, error)
        self._flush()
        self._engine = EndedEngine(self._engine.negotiated)
        for timer in (self._retransmit, self._idle):
            if timer is not None:
                timer.cancel()
        self._registry.discard(self)
        self._wake.set()
        self._over.set()
        self._ended(self)
        self._ended = _forget  # the owner's way back would keep both alive


class _ClientEndpoint(asyncio.DatagramProtocol):
    """One socket with one peer."""

    def __init__(self) -> None:
        self.channel: DatagramChannel | None = None
        self._transport: asyncio.DatagramTransport | None = None
        self._blocked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002  # the event loop's signature
        if self.channel is not None:
            self.channel.feed(data)

    def error_received(self, exc: Exception) -> None:
        if self.channel is not None:
            self.channel.unreachable(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.channel is not None:
            self.channel.abort(ChannelClosedError(f"the socket is gone ({exc or 'closed'})"))

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False

    def transmit(self, datagram: bytes | bytearray) -> None:
        """Send, unless the kernel does not keep up: then drop, as the network would."""
        if self._transport is not None and not self._blocked and not self._transport.is_closing():
            self._transport.sendto(datagram)

    def close(self, _channel: DatagramChannel) -> None:
        if self._transport is not None:
            self._transport.close()


async def open_datagram_channel(
    host: str,
    port: int,
    engine_factory: DatagramEngineFactory,
    *,
    guard: Guard,
    registry: ChannelRegistry,
    limits: Limits | None = None,
) -> DatagramChannel:
    """Open a socket of its own to the far end, and authenticate it.

    Raises:
        PeerUnreachableError: nothing listens there, or the name has no address within `limits.handshake_seconds`.
        HandshakeError: the far end is not who it must be, or is silent.
        ConfigurationError: the host or port can be no address.
        WorkloadError: from the guard.
    """
    limits = limits or Limits()
    guard(None)
    engine = engine_factory()
    endpoint = await _connected(host, port, limits.handshake_seconds)
    channel = endpoint.channel = DatagramChannel(
        engine,
        endpoint.transmit,
        peer=f"{host}:{port}",
        limits=limits,
        guard=guard,
        registry=registry,
        ended=endpoint.close,
    )
    try:
        await channel.handshake()
    except asyncio.CancelledError:
        channel.abort(ChannelClosedError("given up during the handshake"))
        raise
    return channel


async def _connected(host: str, port: int, seconds: float) -> _ClientEndpoint:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            _transport, endpoint = await loop.create_datagram_endpoint(_ClientEndpoint, remote_addr=(host, port))
    except OSError as error:  # TimeoutError is one
        reason = str(error) or f"no address for this name within {seconds:g} s"
        raise PeerUnreachableError(f"cannot send to {host}:{port}: {reason}") from error
    except (UnicodeError, OverflowError) as error:
        raise ConfigurationError(f"{host!r}, port {port}, can be no address: {error}") from error
    return endpoint


def _forget(_channel: DatagramChannel) -> None:
    """Stand in for the owner once the channel has ended."""
