"""Where a program's time goes. As a program: the broker, its main thread profiled from a signal until its end."""

import cProfile
import io
import pstats
import signal
import sys
import time
import types
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

from bench.processes import Running, module

_LINES: Final = 25
_BEGIN: Final = signal.SIGUSR2


def under_profile(output: Path) -> tuple[str | Path, ...]:
    """The command line of a broker that will write its profile to `output`; arguments of the broker follow."""
    return (*module("bench.profiling"), output)


def begin(process: Running) -> None:
    """Begin to profile such a broker: its start is not of interest."""
    process.send(_BEGIN)


def hottest(output: Path) -> str:
    """Return the functions that took the most time, first without and then with what they called."""
    text = io.StringIO()
    return _hottest(pstats.Stats(str(output), stream=text), text)


async def profiled(work: Awaitable[object]) -> str:
    """Await work of this very process under the profile, and return what `hottest` does."""
    text = io.StringIO()
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    try:
        await work
    finally:
        profile.disable()
    return _hottest(pstats.Stats(profile, stream=text), text)


def _hottest(stats: pstats.Stats, text: io.StringIO) -> str:
    stats.strip_dirs()
    for order in ("tottime", "cumulative"):
        stats.sort_stats(order).print_stats(_LINES)
    return "\n".join(line for line in text.getvalue().splitlines() if line.strip())


def main() -> None:
    """Be the broker."""
    from mcbn_broker.__main__ import main as broker  # noqa: PLC0415  # only this program needs it

    output = sys.argv.pop(1)
    profile = cProfile.Profile(time.thread_time)  # CPU, so that waiting for the other thread does not count

    def begin_now(_number: int, _frame: types.FrameType | None) -> None:
        profile.enable()

    signal.signal(_BEGIN, begin_now)
    try:
        broker()
    finally:
        profile.disable()
        profile.dump_stats(output)


if __name__ == "__main__":
    main()
