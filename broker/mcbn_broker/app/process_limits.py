"""What the operating system gives this process: enough file descriptors, and no core dump, which would hold shares."""

import contextlib
import resource
from typing import Final

from mcbn_broker.telemetry.logs import logger

OTHER_FILES: Final = 128  # the database, key files, key set fetches, standard streams, the health listener


def forbid_core_dumps() -> None:
    """Set RLIMIT_CORE for good (getrlimit(2)) to 1 byte, or leave it at 0 where no more is allowed."""
    # Linux, fs/coredump.c: where core_pattern is a pipe to a program, such as systemd-coredump, only a limit of exactly
    # 1 stops the dump, while 0 is ignored. A file would have to hold a page at least, so 1 byte stops it just as well.
    with contextlib.suppress(ValueError):  # the hard limit is 0, and only root can raise it
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def room_for_connections(wanted: int) -> int:
    """Raise RLIMIT_NOFILE as far as `wanted` connections need it, and return how many there is room for."""
    needed = wanted + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    soft = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = max(1, min(wanted, soft - OTHER_FILES))
    if room < wanted:
        logger().warning(
            "TOO FEW FILE DESCRIPTORS",
            connections=room,
            wanted=wanted,
            next_step=f"raise the hard limit (ulimit -Hn, LimitNOFILE=) to {needed}, or lower `connections`",
        )
    return room
