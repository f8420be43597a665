"""A token bucket for each client, in bounded memory, and one for clients that nobody has seen before."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

CLIENTS: Final = 10_000
NEWCOMERS: Final = 1000.0
NEWCOMERS_PER_SECOND: Final = 100.0


class RateLimit:
    """Admits `burst` requests at once and `per_second` in the long run, for each of the last 10,000 clients.

    A new client gets a full bucket, so new ones are limited too: 1,000 at once and 100 a second, from all addresses.

    Args:
        per_second: 0 admits everything.
        burst: The bucket's size.
        now: Monotonic seconds.
    """

    def __init__(self, *, per_second: float, burst: int, now: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._now = now
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._newcomers = _Bucket(NEWCOMERS, NEWCOMERS, now())

    def admits(self, client: str) -> bool:
        """Take one token of a client's bucket; False if it is empty, or a new one's cannot be made now."""
        if not self._per_second:
            return True
        now = self._now()
        bucket = self._buckets.pop(client, None) or self._welcome(now)
        if bucket is None:
            return False
        self._buckets[client] = bucket
        if len(self._buckets) > CLIENTS:
            self._buckets.popitem(last=False)
        return bucket.take(now, per_second=self._per_second)

    def _welcome(self, now: float) -> "_Bucket | None":
        welcome = self._newcomers.take(now, per_second=NEWCOMERS_PER_SECOND)
        return _Bucket(self._burst, self._burst, now) if welcome else None


@dataclass(slots=True)
class _Bucket:
    size: float
    tokens: float
    since: float

    def take(self, now: float, *, per_second: float) -> bool:
        self.tokens = min(self.size, self.tokens + (now - self.since) * per_second)
        self.since = now
        there = self.tokens >= 1.0
        self.tokens -= there
        return there
