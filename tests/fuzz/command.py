"""The command line of the fuzzer: chooses targets, shares out the time, prints the table, replays an input."""

import argparse
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.figures import Figures, table
from tests.fuzz.sessions import ROOT, TARGETS, Limits, Outcome, Session, target_names

FOUND = 1
RUNNER = Path(__file__).with_name("run.py")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/fuzz/run.py", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3600, help="fuzzing time over all targets (default: an hour)")
    parser.add_argument("--runs", type=int, help="instead of a time: executions of each target, from a fixed seed")
    parser.add_argument("--target", nargs="+", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="targets at the same time (default: 2)")
    parser.add_argument(
        "--corpus", type=Path, default=ROOT / "build" / "fuzz", help="inputs that are kept, and crashes"
    )
    parser.add_argument("--figures", type=Path, metavar="FILE", help="add the figures to this JSON file")
    parser.add_argument("--timeout", type=int, default=10, help="seconds after which one execution counts as a hang")
    parser.add_argument("--memory", type=int, default=2048, help="most memory of one target's process, in MiB")
    parser.add_argument("--targets", type=Path, default=TARGETS, help="the folder of targets")
    parser.add_argument("--list", action="store_true", help="print the targets' names")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run one target, named by --target, on this input")
    chosen = parser.parse_args(given)
    known = target_names(chosen.targets)
    unknown = sorted(set(chosen.target or ()) - set(known))
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}; known are {', '.join(known)}")
    if chosen.replay is not None and (len(chosen.target or ()) != 1 or not chosen.replay.is_file()):
        parser.error("--replay takes an input's file and one --target")
    if chosen.jobs < 1 or chosen.seconds < 1:
        parser.error("--jobs and --seconds are at least 1")
    chosen.target = chosen.target or known
    return chosen


def fuzz(chosen: argparse.Namespace) -> list[Outcome]:
    """Fuzz each target in turn, `jobs` at the same time; what is known so far goes to the figures' file at once."""
    seconds = max(1, chosen.seconds * chosen.jobs // len(chosen.target))
    limits = Limits(chosen.timeout, chosen.memory, *((0, chosen.runs) if chosen.runs else (seconds, None)))
    figures = Figures(chosen.figures)
    lock = threading.Lock()

    def run(name: str) -> Outcome:
        outcome = Session(name, chosen.targets, chosen.corpus).fuzz(limits)
        with lock:
            figures.add(outcome)
            say(outcome.line())
        return outcome

    say(f"{len(chosen.target)} targets, inputs and logs in {chosen.corpus}")
    with ThreadPoolExecutor(chosen.jobs) as pool:
        return list(pool.map(run, chosen.target))


def report(outcomes: Sequence[Outcome], chosen: argparse.Namespace) -> int:
    say(table(outcomes))
    broken = [one for one in outcomes if one.broken]
    where = "" if chosen.targets == TARGETS else f" --targets {chosen.targets}"
    for one in broken:
        say(f"\n{one.name}: status {one.status}, log in {one.log}\n{one.reason}")
        for crash in one.crashes:
            say(f"replay: {sys.executable} {RUNNER} --replay {crash} --target {one.name}{where}")
    return FOUND if broken else 0


def main(given: Sequence[str]) -> int:
    chosen = arguments(given)
    if chosen.list:
        say("\n".join(chosen.target))
        return 0
    if chosen.replay is not None:
        (name,) = chosen.target
        return Session(name, chosen.targets, chosen.corpus).replay(chosen.replay, Limits(chosen.timeout, chosen.memory))
    return report(fuzz(chosen), chosen)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
