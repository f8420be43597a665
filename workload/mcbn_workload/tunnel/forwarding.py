"""One forwarded connection: bytes both ways between a plaintext stream and its channel, and each end's end."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from mcbn_workload.channels.errors import ChannelClosedError
from mcbn_workload.channels.streams import Channel
from mcbn_workload.errors import WorkloadError
from mcbn_workload.tunnel.plain import PlainStream

_log: Final = logging.getLogger("mcbn.workload.tunnel")

COMPLETED: Final = "completed"
CANCELLED: Final = "cancelled"
CLOSE_SECONDS: Final = 5.0


@dataclass(slots=True)
class TunnelStats:
    """Counters of one tunnel end since its start.

    Attributes:
        open: connections being forwarded now.
        sent: bytes taken from applications and written to channels.
        received: bytes read from channels and handed to applications.
        ended: how many connections ended for each reason: `completed`, `cancelled`, or an error's code.
    """

    open: int = 0
    sent: int = 0
    received: int = 0
    ended: Counter[str] = field(default_factory=Counter)


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
        self._began(channel)
        try:
            await self._forward(plain, channel)
        except WorkloadError as error:
            self._ended(channel, error.code, str(error))
            raise
        except BaseException as error:
            self._ended(channel, CANCELLED, type(error).__name__)
            raise
        else:
            self._ended(channel, COMPLETED, "both directions have ended")
        finally:
            self._stats.open -= 1

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
                group.create_task(_copy(plain, channel, self._count_sent))
                group.create_task(_copy(channel, plain, self._count_received))
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

    def _began(self, channel: Channel) -> None:
        agreed = channel.negotiated
        _log.info(
            "channel with %s: %s, %s, %s",
            channel.peer,
            agreed.protocol,
            agreed.suite,
            agreed.group,
            extra={
                "event": "channel_open",
                "peer": channel.peer,
                "protocol": agreed.protocol,
                "suite": agreed.suite,
                "group": agreed.group,
                "psk_identity": agreed.identity,
            },
        )

    def _ended(self, channel: Channel, code: str, text: str) -> None:
        self._stats.ended[code] += 1
        _log.info(
            "forwarding with %s ended: %s",
            channel.peer,
            text,
            extra={"event": "channel_ended", "code": code, "sent": self.sent, "received": self.received},
        )


async def _copy(source: _Source, sink: _Sink, count: Callable[[int], None]) -> None:
    while data := await source.read():
        await sink.write(data)
        count(len(data))
    await sink.write_eof()
