"""What one end spends on its channels, until when it may, and those that are open, so that all can be ended."""

import logging
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from mcbn_workload.channels.throttle import Throttle
from mcbn_workload.errors import WorkloadError

_log: Final = logging.getLogger("mcbn.workload.channels")

FAILURE_LOG_SECONDS: Final = 10  # between two lines about peers that did not authenticate themselves

Guard = Callable[[str | None], None]
"""Returns while the channel's own key is live; else raises the `WorkloadError` that says why it is not.

Takes what names the channel's key (`Negotiated.identity`), or None before the end of the handshake: then any live key
will do. It is called for each record and wake-up, so it must answer at once.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one end spends on its channels.

    Attributes:
        handshake_seconds: from the connection's start to an authenticated peer.
        close_seconds: for the peer to answer close_notify.
        connections: channels open at once on a listener, handshakes included.
        handshakes: unfinished handshakes at once on a listener; the oldest gives way to a new one.
        idle_seconds: over datagrams, without one either way: a peer that has gone may leave no other trace.
    """

    handshake_seconds: float = 4.0
    close_seconds: float = 5.0
    connections: int = 1024
    handshakes: int = 128
    idle_seconds: float = 60.0


class OpenChannel(Protocol):
    """What a registry needs of a channel, whatever carries it."""

    @property
    def identity(self) -> str | None:
        """What names the key that the peer proved to hold; None before the end of the handshake."""

    @property
    def peer(self) -> str:
        """The far end's transport address."""

    @property
    def reason(self) -> WorkloadError | None:
        """Why this end closed or gave up; None while it is open."""

    def abort(self, reason: WorkloadError) -> None:
        """End the channel at once."""


class ChannelRegistry:
    """The channels under one key owner, so that it can end all of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without channels.

        Args:
            clock: Seconds that rise steadily, for the rate of log lines.
        """
        self._channels: set[OpenChannel] = set()
        self._lost: weakref.WeakSet[OpenChannel] = weakref.WeakSet()  # without a connection, but somebody may read on
        self._failures = Throttle(FAILURE_LOG_SECONDS, clock)

    def __len__(self) -> int:
        return len(self._channels)

    def __iter__(self) -> Iterator[OpenChannel]:
        """Give every channel that may hold a key: also those that lost their connection before this end knew why."""
        return iter((*self._channels, *(channel for channel in self._lost if channel.reason is None)))

    def add(self, channel: OpenChannel) -> None:
        """Take a channel in, handshake or not."""
        self._channels.add(channel)

    def discard(self, channel: OpenChannel) -> None:
        """Let a channel go that has ended, or has lost its connection."""
        self._channels.discard(channel)
        if channel.reason is None:
            self._lost.add(channel)

    def epoch_of(self, identity: str | None) -> int | None:
        """Return the epoch whose key this names; None where there are no epochs, or the name is unknown."""
        del identity
        return None

    def report(self, channel: OpenChannel, reason: WorkloadError) -> None:
        """Log why a channel ends. Strangers can make handshakes fail as often as they like, so those share a line."""
        held_back = 0 if channel.identity is not None else self._failures.admit()
        if held_back is None:
            return
        more = f" ({held_back} more before it failed to authenticate)" if held_back else ""
        _log.warning("channel with %s ended: %s%s", channel.peer, reason, more, extra={"code": reason.code})

    def abort_all(self, reason: WorkloadError) -> None:
        """End every channel at once; each one's application gets `reason`."""
        for channel in self:
            channel.abort(reason)
