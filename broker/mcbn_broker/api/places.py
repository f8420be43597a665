"""Limits on what is open at once, altogether and for each client, so that one client cannot take every place."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address
from typing import Final

_HOST_BITS: Final = 64
_SUBNET_BITS: Final = 16
_OF_64: Final = "::/64"


def client_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 address, of which anybody has 2^64."""
    if ":" not in address:
        return address
    six = IPv6Address(address)
    return str(six.ipv4_mapped) if six.ipv4_mapped else f"{int(six) >> _HOST_BITS:x}{_OF_64}"


def _site_of(client: str) -> str | None:
    """Return the /48 of an IPv6 client: one line often has 256 of a /64, and one organisation all 65,536 of a /48."""
    if not client.endswith(_OF_64):
        return None
    return f"{int(client.removesuffix(_OF_64), 16) >> _SUBNET_BITS:x}::/48"


class Places:
    """Counts what is open.

    Args:
        total: Most places altogether; one IPv6 /48 takes at most half of them, or as many as one client.
        each: Most places of one client.
    """

    def __init__(self, *, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._each_site = max(each, total // 2)
        self._of: Counter[str] = Counter()
        self.taken = 0

    def take(self, client: str) -> Callable[[], None] | None:
        """Take a place; return how to leave it (more than once is fine), or None if there is no room."""
        site = _site_of(client)
        if self.taken >= self._total or self._of[client] >= self._each:
            return None
        if site is not None and self._of[site] >= self._each_site:
            return None
        counted = (client,) if site is None else (client, site)
        self.taken += 1
        self._of.update(counted)
        here = True

        def leave() -> None:
            nonlocal here
            if here:
                here = False
                self._leave(counted)

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

    def _leave(self, counted: tuple[str, ...]) -> None:
        self.taken -= 1
        for one in counted:
            self._of[one] -= 1
            if not self._of[one]:
                del self._of[one]
