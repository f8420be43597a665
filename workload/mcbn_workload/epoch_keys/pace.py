"""How long to wait between two renewals: never so short that brokers are flooded, whatever came of the last one."""

from typing import Final

RETRY_MIN: Final = 1.0  # seconds between two renewals
RETRY_MAX: Final = 30.0  # seconds between two failed ones
JITTER: Final = 0.1  # of a lease: workloads that started together do not renew together
_DOUBLINGS_MAX: Final = 8


def after_failure(failures: int, lease_seconds: int, jitter: float) -> float:
    """Return the seconds to wait after so many failures in a row (from 1), while leases last so many seconds.

    `jitter` is a random number from 0 to 1.
    """
    longest = max(RETRY_MIN, min(RETRY_MAX, lease_seconds / 8))
    backoff = min(longest, RETRY_MIN * 2.0 ** min(failures - 1, _DOUBLINGS_MAX))
    return max(RETRY_MIN, backoff * (1 + jitter) / 2)


def after_success(until_half_life: float, lease_seconds: int, jitter: float) -> float:
    """Return the seconds to wait while leases that last so many seconds pass half of their life in `until_half_life`.

    Of leases that were short from the start, because two clocks differ or deriving the keys took long, the half has
    passed already: then there is no time for jitter.
    """
    return max(RETRY_MIN, until_half_life) + jitter * min(JITTER * lease_seconds, max(0.0, until_half_life))
