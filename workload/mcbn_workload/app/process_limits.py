"""What the operating system gives this process: no core dump, which would hold keys, and enough file descriptors."""

import logging
import resource
from typing import Final

_log: Final = logging.getLogger("mcbn.workload.app")

FILES_PER_CONNECTION: Final = 2  # the channel's and the application's
OTHER_FILES: Final = 192  # brokers, launcher, log, the event loop's own; and up to 100 accepted only to be turned away


def forbid_core_dumps() -> None:
    """Set RLIMIT_CORE for good, for the application beside the tunnel too.

    To 1 byte: no file is that small, and only this value keeps Linux from handing a dump to a program
    (`core_pattern` with a pipe, core(5) and fs/coredump.c). 0 stays where it cannot be raised.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    limit = 0 if hard == 0 else 1
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))


def room_for_connections(wanted: int) -> int:
    """Raise RLIMIT_NOFILE as far as forwarding `wanted` connections needs it, and return how many there is room for.

    With fewer descriptors the brokers could not be reached any more, and the leases would end.
    """
    needed = wanted * FILES_PER_CONNECTION + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    soft = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = max(1, min(wanted, (soft - OTHER_FILES) // FILES_PER_CONNECTION))
    if room < wanted:
        _log.warning(
            "too few file descriptors: %d connections at once instead of %d; raise the hard limit (ulimit -Hn) to %d",
            room,
            wanted,
            needed,
            extra={"event": "few_file_descriptors", "connections": room, "wanted": wanted},
        )
    return room
