"""A channel over a stream connection: an engine's plaintext as `read` and `write`, with back-pressure and an end."""

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from mcbn_workload.channels.ended_engine import EndedEngine
from mcbn_workload.channels.engine import Engine, EngineFactory, Negotiated
from mcbn_workload.channels.errors import (
    ChannelBrokenError,
    ChannelClosedError,
    ChannelError,
    HandshakeTimeoutError,
    PeerUnreachableError,
)
from mcbn_workload.channels.registry import ChannelRegistry, Guard, Limits
from mcbn_workload.channels.wire import Wire
from mcbn_workload.errors import ConfigurationError, WorkloadError

_log: Final = logging.getLogger("mcbn.workload.channels")

READ_BYTES: Final = 64 * 1024
_WRITE_BYTES: Final = 64 * 1024  # encrypted at a time, before back-pressure is looked at


class Channel:
    """One end of one authenticated channel. One task may read while another writes.

    Every failure, also an `abort` from elsewhere, is raised by the calls that wait and by all later ones, and stays in
    `reason`. An idle channel is bounded by its keys' life (`guard`, `ChannelRegistry.abort_all`), and a peer that
    vanished by TCP keep-alive. A channel that has ended holds no key any more.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        limits: Limits,
        guard: Guard,
        registry: ChannelRegistry,
        made: Callable[["Channel"], None] | None = None,
    ) -> None:
        self._engine: Engine = engine
        self._limits = limits
        self._guard = guard
        self._registry = registry
        self._made = made
        self.reason: WorkloadError | None = None  # why this end closed or gave up
        self.wire: Final = Wire(self._receive, made=self._on_made, lost=self._on_lost)

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
    def peer(self) -> str:
        """The far end's transport address. It proves nothing; the key does."""
        return self.wire.peer

    @property
    def epoch(self) -> int | None:
        """The epoch of the key; None before the end of the handshake, and where there are no epochs."""
        return self._registry.epoch_of(self.identity)

    async def handshake(self) -> None:
        """Complete the handshake, before any other call and within the limit.

        Raises:
            HandshakeError: the peer is not who it must be, is silent, or closed.
            WorkloadError: from the guard.
        """
        try:
            async with asyncio.timeout(self._limits.handshake_seconds):
                await self._handshake()
        except TimeoutError:
            error = HandshakeTimeoutError(f"{self.peer} was silent for {self._limits.handshake_seconds:g} s")
            self.abort(error)
            raise error from None

    async def read(self, size: int = READ_BYTES) -> bytes:
        """Wait for plaintext.

        Args:
            size: the most to return, in bytes.

        Returns:
            At least one byte; `b""` once the peer has ended its direction with close_notify.

        Raises:
            ChannelTruncatedError: the connection ended without close_notify.
            WorkloadError: the channel failed, or was ended for this reason.
        """
        while True:
            self._require_live()
            data = self._read_engine(size)
            if data is not None:
                return data
            await self._more()

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, and wait while the peer does not keep up.

        Raises:
            ChannelClosedError: after `write_eof` or `close`.
            WorkloadError: the channel failed, or was ended for this reason.
        """
        rest = memoryview(data).cast("B")
        while rest:
            self._require_connected()
            rest = rest[self._write_engine(rest[:_WRITE_BYTES]) :]
            await self.wire.drain()
        self._require_live()

    async def write_eof(self) -> None:
        """End our direction with close_notify, and wait until the kernel has everything; reading goes on.

        Raises:
            WorkloadError: the channel failed, or was ended for this reason.
        """
        self._require_connected()
        self._close_engine()
        await self.wire.flushed()
        self._require_live()

    async def close(self) -> None:
        """End both directions: what was written arrives, what the peer still sends is dropped.

        Waits until the kernel has everything, then for the peer's close_notify within the limit. Does nothing on a
        channel that has ended.

        Raises:
            ChannelBrokenError: a bad record has arrived, so the end of our direction cannot be sent.
        """
        if self.reason is None:
            self._close_engine()
            await self.wire.flushed()
            await self._discard_rest()
            self.reason = self.reason or ChannelClosedError("this end has closed the channel")
            self._forget_keys()
            self.wire.close(self._limits.close_seconds)
        await self.wire.gone()

    def abort(self, reason: WorkloadError) -> None:
        """End the channel at once, without close_notify, so that the peer sees a failure; the first reason stays."""
        if self._end(reason):
            self._forget_keys()
            self.wire.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.close()
        elif isinstance(error, WorkloadError):
            self.abort(error)
        else:
            self.abort(ChannelClosedError(f"the application gave up ({type(error).__name__})"))

    async def _handshake(self) -> None:
        self._require_live()
        while not self._step_handshake():
            await self._more()
            self._require_live()
        self._require_live()  # only now it is known whose key it is

    def _step_handshake(self) -> bool:
        try:
            return self._engine.handshake()
        except ChannelError as error:
            self._fail(error)
            raise
        finally:
            self._flush()

    def _read_engine(self, size: int) -> bytes | None:
        try:
            return self._engine.read(size)
        except ChannelError as error:
            self._fail(error)
            raise
        finally:
            self._flush()

    def _write_engine(self, data: memoryview) -> int:
        taken = 0
        try:
            while taken < len(data):
                taken += self._engine.write(data[taken:])
        finally:
            self._flush()
        return taken

    def _close_engine(self) -> None:
        try:
            self._engine.close()
        except ChannelError as error:
            self._fail(error)
            raise
        finally:
            self._flush()

    async def _more(self) -> None:
        self.wire.consumed()
        await self.wire.arrival()
        if self.wire.eof:
            self._engine.feed_eof()

    async def _discard_rest(self) -> None:
        try:
            async with asyncio.timeout(self._limits.close_seconds):
                while (data := self._engine.read(READ_BYTES)) != b"":
                    if data is None:
                        await self._more()
                        self._require_live()
        except (TimeoutError, WorkloadError) as error:
            _log.debug("%s did not answer close_notify: %s", self.peer, error)

    def _flush(self) -> None:
        if chunks := self._engine.outgoing():
            self.wire.send(chunks)

    def _fail(self, error: ChannelError) -> None:
        """Keep the engine's failure as the reason, and close after the alert that it may have left."""
        if self._end(error):
            self._flush()
            self._forget_keys()
            self.wire.close(self._limits.close_seconds)

    def _forget_keys(self) -> None:
        """Let the engine go: whoever waits for something else may hold this channel for long."""
        self._engine = EndedEngine(self._engine.negotiated)

    def _end(self, reason: WorkloadError) -> bool:
        if self.reason is not None:
            return False
        self.reason = reason
        self._registry.report(self, reason)
        return True

    def _require_live(self) -> None:
        if self.reason is not None:
            raise self.reason.with_traceback(None)  # raised each time: its frames must not add up
        try:
            self._guard(self.identity)
        except WorkloadError as error:
            self.abort(error)
            raise
        if self.reason is not None:  # the guard ended this channel, but not those of another epoch
            raise self.reason.with_traceback(None)  # raised each time: its frames must not add up

    def _require_connected(self) -> None:
        self._require_live()
        if not self.wire.connected:
            error = ChannelBrokenError(f"the connection to {self.peer} is lost ({self.wire.error or 'closed'})")
            self.abort(error)
            raise error

    def _receive(self, ciphertext: memoryview) -> None:
        if self.reason is not None:
            return
        try:
            self._guard(self.identity)
        except WorkloadError as error:
            self.abort(error)
        if self.reason is None:
            self._engine.feed(ciphertext)

    def _on_made(self) -> None:
        self._registry.add(self)
        if self._made is not None:
            self._made(self)

    def _on_lost(self) -> None:
        self._registry.discard(self)


async def open_channel(
    host: str,
    port: int,
    engine_factory: EngineFactory,
    *,
    guard: Guard,
    registry: ChannelRegistry,
    limits: Limits | None = None,
) -> Channel:
    """Connect to the far end and authenticate it.

    Raises:
        PeerUnreachableError: no connection within `limits.handshake_seconds`.
        HandshakeError: the far end is not who it must be, is silent, or closed.
        ConfigurationError: the host or port can be no address.
        WorkloadError: from the guard.
    """
    limits = limits or Limits()
    guard(None)
    channel = Channel(engine_factory(), limits=limits, guard=guard, registry=registry)
    try:
        await _connect(channel, host, port, limits.handshake_seconds)
        await channel.handshake()
    except asyncio.CancelledError:
        channel.abort(ChannelClosedError("given up during the handshake"))
        registry.discard(channel)  # uvloop does not tell the protocol when connecting is cancelled in its last step
        raise
    return channel


async def _connect(channel: Channel, host: str, port: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            await loop.create_connection(lambda: channel.wire, host, port)
    except OSError as error:  # TimeoutError is one
        reason = str(error) or f"no answer within {seconds:g} s"
        raise PeerUnreachableError(f"cannot connect to {host}:{port}: {reason}") from error
    except (UnicodeError, OverflowError) as error:
        raise ConfigurationError(f"{host!r}, port {port}, can be no address: {error}") from error
