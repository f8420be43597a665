"""A token bucket for each client address, in bounded memory."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

ADDRESSES: Final = 10_000


class RateLimit:
    """Admits `burst` requests at once and `per_second` in the long run, for each of the last 10,000 addresses.

    Args:
        per_second: 0 admits everything.
        burst: The bucket's size.
        now: Monotonic seconds.
    """

    def __init__(self, *, per_second: float, burst: int, now: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admits(self, address: str) -> bool:
        """Take one token of an address's bucket; False if it is empty."""
        if not self._per_second:
            return True
        now = self._now()
        tokens, since = self._buckets.pop(address, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._per_second)
        admitted = tokens >= 1.0
        self._buckets[address] = (tokens - admitted, now)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return admitted
