"""Turns a bare interpreter into a program of the demo, which dies with it and finds its sockets as services do.

Run as `python -I -S become.py PARENT_PID SOCKETS PROGRAM ARGUMENT...`; SOCKETS is `broker=7:health=9`, or empty. The
sockets are handed over as systemd does it (sd_listen_fds(3)): descriptors 3 and up, named by the environment. Nothing
of this package is imported, because this runs before every process of the demo.
"""

import ctypes
import fcntl
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)
_FIRST_FD = 3


def _die_with_parent(parent: int) -> None:
    """Have the kernel end this process, even when the demo itself is killed and can end nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def _take_sockets(sockets: str) -> None:
    pairs = [pair.split("=") for pair in sockets.split(":")]
    beyond = _FIRST_FD + len(pairs)
    given = [int(number) for _name, number in pairs]
    copies = [fcntl.fcntl(number, fcntl.F_DUPFD, beyond) for number in given]  # none is overwritten by the next lines
    for at, copy in enumerate(copies):
        os.dup2(copy, _FIRST_FD + at)
    os.closerange(beyond, max(*given, *copies) + 1)
    os.environ |= {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": str(len(pairs)),
        "LISTEN_FDNAMES": ":".join(name for name, _number in pairs),
    }


def main() -> None:
    """Become the program."""
    parent, sockets, program, *arguments = sys.argv[1:]
    _die_with_parent(int(parent))
    if sockets:
        _take_sockets(sockets)
    os.execv(program, [program, *arguments])  # noqa: S606  # no shell is the point


if __name__ == "__main__":
    main()
