"""Leases, and the two clocks by which they end."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """The two clocks, both in seconds.

    Attributes:
        boottime: Rises steadily, also while the machine is suspended.
        wall: Unix time.
    """

    boottime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    wall: Callable[[], float] = time.time


@dataclass(frozen=True)
class Lease:
    """A participant's permission to hold an epoch's share for a limited time.

    Attributes:
        participant: Who gave it.
        started: When the challenge was asked for, on the boottime clock.
        issued_at: When the broker signed the release, Unix seconds.
        seconds: How long it lasts.
    """

    participant: str
    started: float
    issued_at: int
    seconds: int

    def remaining(self, clock: Clock) -> float:
        """Return the seconds left, by whichever clock says less; zero or below when it has ended."""
        return min(self.started - clock.boottime(), self.issued_at - clock.wall()) + self.seconds

    def is_live(self, clock: Clock) -> bool:
        """Whether it still holds."""
        return self.remaining(clock) > 0
