"""Limits on what is open at once, altogether and for each client, so that one client cannot take every place."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address
from typing import Final

_HOST_BITS: Final = 64


def client_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 address, of which anybody has 2^64."""
    if ":" not in address:
        return address
    six = IPv6Address(address)
    return str(six.ipv4_mapped) if six.ipv4_mapped else f"{int(six) >> _HOST_BITS:x}::/64"


class Places:
    """Counts what is open.

    Args:
        total: Most places altogether.
        each: Most places of one client.
    """

    def __init__(self, *, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._of: Counter[str] = Counter()
        self.taken = 0

    def take(self, client: str) -> Callable[[], None] | None:
        """Take a place; return how to leave it (more than once is fine), or None if there is no room."""
        if self.taken >= self._total or self._of[client] >= self._each:
            return None
        self.taken += 1
        self._of[client] += 1
        here = True

        def leave() -> None:
            nonlocal here
            if here:
                here = False
                self._leave(client)

        return leave

    @contextmanager
    def one(self, client: str) -> Iterator[bool]:
        """Hold a place for a block of work; the block learns whether there was room."""
        leave = self.take(client)
        try:
            yield leave is not None
        finally:
            if leave is not None:
                leave()

    def _leave(self, client: str) -> None:
        self.taken -= 1
        self._of[client] -= 1
        if not self._of[client]:
            del self._of[client]
