"""One run: learns which tests reach which lines, judges every mutant that has no outcome yet, shows how far it is."""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from mutation.children import SURVIVED, BrokenRunError, Outcome, in_child, judge_all
from mutation.edits import Edit
from mutation.mutants import MODULE_LEVEL, Mutant, find_mutants
from mutation.plan import Plan
from mutation.results import Results
from mutation.sessions import Reach, judge_at_import, learn, load_others, read_reach, with_collected

_SHOW_EACH: Final = 50


def all_mutants(plan: Plan) -> list[Mutant]:
    """Return the mutants of every module."""
    return [mutant for module, data in plan.sources.items() for mutant in find_mutants(module, data)]


def run(plan: Plan, mutants: Sequence[Mutant], results: Results, *, jobs: int) -> dict[Mutant, Outcome]:
    """Judge mutants and return their outcomes.

    Raises:
        BrokenRunError: The tests fail without a mutant, or nothing can be judged.
    """
    waiting = [mutant for mutant in mutants if results.get(mutant) is None]
    if waiting:
        with tempfile.TemporaryDirectory() as folder:
            # The tests' own folders and data, away from those of other runs; nothing from a developer's environment.
            os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
            for name in ("MCBN_EVIDENCE", "MCBN_REQUIRE_EVIDENCE", "MCBN_REQUIRE_PEERS", "PYTEST_ADDOPTS"):
                os.environ.pop(name, None)
            _judge(plan, waiting, results, jobs=jobs)
    outcomes = {mutant: results.get(mutant) for mutant in mutants}
    return {mutant: outcome for mutant, outcome in outcomes.items() if outcome is not None}


def _judge(plan: Plan, waiting: Sequence[Mutant], results: Results, *, jobs: int) -> None:
    file = results.folder / f"mutants-reach-{results.digest[:16]}.json"
    if not file.is_file():
        for old in results.folder.glob("mutants-reach-*"):
            old.unlink()
        _apart(lambda: _learn_compiling(plan, file))
    sys.dont_write_bytecode = True
    reach = read_reach(file)
    load_others(reach)
    early = [mutant for mutant in waiting if reach.works_at_import(mutant)]
    late = [mutant for mutant in waiting if not reach.works_at_import(mutant)]
    progress = _Progress(results, len(waiting))
    _apart(lambda: _late(plan, reach, late, progress, jobs))
    results.load()
    progress.done = len(late)
    left: list[Mutant] = []

    def note(mutant: Mutant, outcome: Outcome, test: str) -> None:
        if outcome is Outcome.SURVIVED:
            left.append(mutant)
        else:
            progress.note(mutant, outcome, test)

    _with_sound_tests(plan, early, lambda mutant: judge_at_import(plan, reach, mutant, wide=False), note, jobs)
    _with_sound_tests(plan, left, lambda mutant: judge_at_import(plan, reach, mutant, wide=True), progress.note, jobs)
    results.save()


def _learn_compiling(plan: Plan, file: Path) -> None:
    """Learn, and leave the tests compiled: every child that imports them anew is several times as fast."""
    sys.dont_write_bytecode = False
    learn(plan, file)


def _late(plan: Plan, reach: Reach, late: Sequence[Mutant], progress: "_Progress", jobs: int) -> None:
    with_collected(plan, reach, lambda judge: _with_sound_tests(plan, late, judge, progress.note, jobs))
    progress.results.save()


def _with_sound_tests(
    plan: Plan,
    mutants: Sequence[Mutant],
    judge: Callable[[Mutant], int],
    note: Callable[[Mutant, Outcome, str], None],
    jobs: int,
) -> None:
    """Judge mutants, after a look at what the same way of judging says of a program without a fault."""
    if not mutants:
        return
    sound = Mutant(next(iter(plan.modules)), MODULE_LEVEL, None, "", "", 1, (1, 1), Edit(0, 0, ""))
    said: list[Outcome] = []
    judge_all([sound], judge, lambda _, outcome, _test: said.append(outcome), jobs=1, silent=False)
    if said != [Outcome.SURVIVED]:
        raise BrokenRunError(f"the program without a fault was {said[0].value}: the tests depend on their order?")
    judge_all(mutants, judge, note, jobs=jobs)


def _apart(action: Callable[[], None]) -> None:
    """Do something in a process of its own, from which nothing stays loaded here."""

    def body() -> int:
        action()
        return SURVIVED

    child = in_child(body)
    try:
        _, status = os.waitpid(child, 0)
    except BaseException:
        os.kill(child, 15)
        os.waitpid(child, 0)
        raise
    if status != 0:
        raise BrokenRunError("see above")


class _Progress:
    """Keeps outcomes and says now and then how far the run is."""

    def __init__(self, results: Results, total: int) -> None:
        self.results = results
        self.done = 0
        self._total = total
        self._survived = 0

    def note(self, mutant: Mutant, outcome: Outcome, test: str) -> None:
        """Keep one outcome."""
        self.results.note(mutant, outcome, test)
        self.done += 1
        self._survived += outcome is Outcome.SURVIVED
        if self.done % _SHOW_EACH == 0 or self.done == self._total:
            print(f"mutants: {self.done} of {self._total}", file=sys.stderr, flush=True)
