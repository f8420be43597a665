"""One forwarded connection: bytes both ways between a plaintext stream and its channel, and each end's end."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from mcbn_workload.channels.errors import ChannelBrokenError, ChannelClosedError
from mcbn_workload.channels.streams import Channel
from mcbn_workload.errors import WorkloadError
from mcbn_workload.tunnel.accounts import CANCELLED, COMPLETED, TunnelStats, log_end, log_open
from mcbn_workload.tunnel.plain import PlainStream

CLOSE_SECONDS: Final = 5.0


class _Source(Protocol):
    async def read(self) -> bytes: ...


class _Sink(Protocol):
    async def write(self, data: bytes) -> None: ...

    async def write_eof(self) -> None: ...


class Forwarding:
    """One forwarded connection of a tunnel, with its own byte counts; the tunnel's are kept up as it runs."""

    def __init__(self, stats: TunnelStats) -> None:
        self._stats = stats
        self.sent = 0
        self.received = 0

    async def run(self, plain: PlainStream, channel: Channel) -> None:
        """Forward until both directions have ended, or either end fails: then both are aborted.

        FIN becomes close_notify and close_notify FIN, each direction by itself. Nothing is added to the bytes.
        """
        self._stats.open += 1
        log_open(channel.peer, channel.negotiated, channel.epoch)
        try:
            await self._forward(plain, channel)
        except WorkloadError as error:
            self._note_end(channel, error.code, str(error))
            raise
        except BaseException as error:
            self._note_end(channel, CANCELLED, type(error).__name__)
            raise
        else:
            self._note_end(channel, COMPLETED, "both directions have ended")
        finally:
            self._stats.open -= 1

    def _note_end(self, channel: Channel, code: str, text: str) -> None:
        log_end(channel.peer, code, text, sent=self.sent, received=self.received)
        self._stats.ended[code] += 1

    async def _forward(self, plain: PlainStream, channel: Channel) -> None:
        try:
            await self._both_ways(plain, channel)
            await channel.close()
            await plain.close(CLOSE_SECONDS)
        except BaseException as error:
            reason = error if isinstance(error, WorkloadError) else ChannelClosedError("the tunnel stops")
            channel.abort(reason)
            plain.abort(reason)
            raise

    async def _both_ways(self, plain: PlainStream, channel: Channel) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(_copy(plain, channel, self._count_sent))
                receiving = group.create_task(_copy(channel, plain, self._count_received))
                watching = group.create_task(_watch(channel, sending, receiving))
                await asyncio.wait({sending, receiving})
                watching.cancel()
        except* WorkloadError as errors:
            failure = errors.exceptions[0]
        else:
            return
        raise failure

    def _count_sent(self, count: int) -> None:
        self.sent += count
        self._stats.sent += count

    def _count_received(self, count: int) -> None:
        self.received += count
        self._stats.received += count


async def _watch(channel: Channel, sending: asyncio.Task[None], receiving: asyncio.Task[None]) -> None:
    """Fail when the channel ends before both directions: a copy that waits for the application would not notice.

    What had arrived when the connection was lost has `CLOSE_SECONDS` to reach the application.

    Raises:
        ChannelBrokenError: the connection was lost.
        WorkloadError: the channel was ended for this reason.
    """
    await channel.wire.gone()
    if channel.reason is None:
        await asyncio.wait({receiving}, timeout=CLOSE_SECONDS)
    if sending.done() and receiving.done():
        return
    raise channel.reason or ChannelBrokenError(
        f"the connection to {channel.peer} is lost ({channel.wire.error or 'closed'})"
    )


async def _copy(source: _Source, sink: _Sink, count: Callable[[int], None]) -> None:
    while data := await source.read():
        await sink.write(data)
        count(len(data))
    await sink.write_eof()
