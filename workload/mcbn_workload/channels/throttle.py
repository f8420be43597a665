"""Keeps a flood of peers from becoming a flood of log lines."""

from collections.abc import Callable


class Throttle:
    """Lets one line through in each interval, and counts those that it holds back."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        """Start with the first line free.

        Args:
            seconds: The interval.
            clock: Seconds that rise steadily.
        """
        self._seconds = seconds
        self._clock = clock
        self._last = float("-inf")
        self._held_back = 0

    def admit(self) -> int | None:
        """Return how many lines were held back since the last one; None if this one is to be held back too."""
        now = self._clock()
        if now - self._last < self._seconds:
            self._held_back += 1
            return None
        self._last, held_back, self._held_back = now, self._held_back, 0
        return held_back
