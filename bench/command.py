"""The command line of the benchmarks: which, how many rounds, and how they are shown."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from bench import channels, commits, datagrams, gather, memory, mtls, release, rsa, start, tokens
from bench.harness import ROUNDS_MIN, Options, Report
from bench.report import as_json, show
from rich.console import Console

SUITES: Final[Mapping[str, Callable[[Options], Awaitable[Report]]]] = {
    "release": release.run,
    "memory": memory.run,
    "commits": commits.run,
    "gather": gather.run,
    "start": start.run,
    "tokens": tokens.run,
    "channels": channels.run,
    "datagrams": datagrams.run,
    "mtls": mtls.run,
    "rsa": rsa.run,
}
_QUICK: Final = Options(rounds=2, scale=0.1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"one or more of {', '.join(SUITES)}; default: all")
    parser.add_argument("--rounds", type=int, default=ROUNDS_MIN, help=f"default {ROUNDS_MIN}, fewer give no verdict")
    parser.add_argument("--quick", action="store_true", help="2 short rounds, to see whether everything runs")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    return parser


async def _run(chosen: list[str], options: Options, console: Console) -> list[Report]:
    reports = []
    for name in chosen:
        console.print(f"measuring {name} ...", highlight=False)
        reports.append(await SUITES[name](options))
    return reports


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory where it is installed, as broker and workload do."""
    try:
        import uvloop  # noqa: PLC0415  # optional
    except ImportError:
        return None
    return uvloop.new_event_loop


def main() -> int:
    """Run what was asked for. The exit status says whether it ran, not whether it was fast: nothing here is a test."""
    parser = _parser()
    arguments = parser.parse_args()
    chosen = arguments.suites or list(SUITES)
    if unknown := set(chosen) - SUITES.keys():
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    options = _QUICK if arguments.quick else Options(rounds=max(1, arguments.rounds), scale=1.0)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        reports = runner.run(_run(chosen, options, Console(stderr=True)))
    if arguments.output == "json":
        print(as_json(reports))
    else:
        for report in reports:
            show(report, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
