"""Judges each mutant in a forked child, of which only the exit status comes back."""

import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from mutation.mutants import Mutant

SURVIVED, KILLED, BROKEN = 0, 1, 70
_MEMORY_BYTES: Final = 4 * 1024**3
_CPU_SECONDS: Final = 300
_START_SECONDS: Final = 60
_NAME_BYTES: Final = 4096
_TEMPORARY: Final = "PYTEST_DEBUG_TEMPROOT"


class Outcome(StrEnum):
    """What came of a mutant."""

    KILLED = "killed"
    TIMED_OUT = "timed out"
    SURVIVED = "survived"


class BrokenRunError(Exception):
    """The run itself is at fault, not a mutant."""


def limit(seconds: float) -> None:
    """End this process after so many seconds of its own work, or a few times as long of waiting."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 + 3 * seconds)


def no_limit() -> None:
    """Take the limit back."""
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)


def in_child(body: Callable[[], int]) -> int:
    """Fork a child that runs `body` and exits with what it returns; give its process id. Standard output is dropped."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _become(body)
    return child


def _become(body: Callable[[], int]) -> NoReturn:
    status = BROKEN
    try:
        _redirect(sys.stdout.fileno())
        status = body()
    except BrokenRunError as error:
        print(f"mutants: {error}", file=sys.stderr, flush=True)
    except BaseException:  # noqa: BLE001  # a forked child must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(status)


def _redirect(stream: int) -> None:
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, stream)
    os.close(silence)


def _confine() -> None:
    """Make this process one that may go wrong in any way: limited, and with all its children in one group."""
    os.setpgid(0, 0)
    for number in (signal.SIGPROF, signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _redirect(0)
    limit(_START_SECONDS)


def outcome(status: int) -> Outcome:
    """Return what a child's wait status says."""
    if os.WIFSIGNALED(status):
        timers = (signal.SIGPROF, signal.SIGALRM, signal.SIGXCPU)
        return Outcome.TIMED_OUT if os.WTERMSIG(status) in timers else Outcome.KILLED
    return Outcome.SURVIVED if os.WEXITSTATUS(status) == SURVIVED else Outcome.KILLED


class _Running(NamedTuple):
    mutant: Mutant
    killer: int  # the reading end of a pipe


_killer_pipe = -1  # in a child: the writing end


def _own_folder(child: int) -> Path:
    """Where the tests of one child put their files; two that shared a folder would clear away each other's."""
    return Path(os.environ.get(_TEMPORARY) or tempfile.gettempdir()) / f"mutant-{child}"


def name_killer(test: str) -> None:
    """Tell the parent which test killed this child's mutant."""
    os.write(_killer_pipe, test.encode()[:_NAME_BYTES])


def judge_all(
    mutants: Iterable[Mutant],
    judge: Callable[[Mutant], int],
    note: Callable[[Mutant, Outcome, str], None],
    *,
    jobs: int,
    silent: bool = True,
) -> None:
    """Judge mutants in at most `jobs` children at a time; note each outcome as it comes, with the test that killed."""
    running: dict[int, _Running] = {}

    def reap() -> None:
        child, status = os.wait()
        _end_group(child)
        shutil.rmtree(_own_folder(child), ignore_errors=True)
        mutant, pipe = running.pop(child)
        with os.fdopen(pipe, "rb") as reader:
            said = reader.read(_NAME_BYTES).decode(errors="replace")
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == BROKEN:
            raise BrokenRunError(f"{mutant.module}, {mutant.after}: {said}")
        note(mutant, outcome(status), said)

    try:
        for mutant in mutants:
            if len(running) >= jobs:
                reap()
            reading, writing = os.pipe()
            running[in_child(partial(_judge_confined, judge, mutant, writing, silent=silent))] = _Running(
                mutant, reading
            )
            os.close(writing)
        while running:
            reap()
    finally:
        for child in running:
            _end_group(child)


def _judge_confined(judge: Callable[[Mutant], int], mutant: Mutant, pipe: int, *, silent: bool) -> int:
    global _killer_pipe  # noqa: PLW0603  # a forked child judges once
    _killer_pipe = pipe
    _confine()
    folder = _own_folder(os.getpid())
    folder.mkdir(mode=0o700)
    os.environ[_TEMPORARY] = str(folder)  # read when the first test asks for a folder
    if silent:
        _redirect(sys.stderr.fileno())
    try:
        return judge(mutant)
    except BaseException:  # noqa: BLE001  # for the parent to show
        name_killer(traceback.format_exc())
        return BROKEN


def _end_group(child: int) -> None:
    """End what a child has left behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
