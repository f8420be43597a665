"""The time now, and times as people read them."""

import time
from datetime import UTC, datetime


def now() -> int:
    """Return the time in Unix seconds."""
    return int(time.time())


def moment(seconds: int) -> str:
    """Return Unix seconds as UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: int) -> str:
    """Return seconds as `1 d 2 h 3 min 4 s`, without the parts that are zero."""
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts) or "0 s"
