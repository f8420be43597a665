"""Runs pytest inside this process: once to learn which tests reach which lines, then for mutants.

A mutant inside a function is put into a child of a process that has collected every test already, by giving the
function the mutant's code. A mutant that works at import needs a child of a process that has loaded nothing of ours.
"""

import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import coverage
import pytest
from hypothesis import HealthCheck, Phase, settings

from mutation.children import KILLED, SURVIVED, BrokenRunError, limit, name_killer, no_limit
from mutation.edits import Source
from mutation.mutants import Mutant
from mutation.plan import Plan

_OPTIONS: Final = (
    "-q",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:unraisableexception",  # a child that is ended leaves handles open
    "--capture=no",
    "--timeout=0",
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)
_LEAST_SECONDS: Final = 5.0
_SLOW_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Reach:
    """What one run of all tests showed.

    Attributes:
        seconds: Duration of each test, by node id, also of those that only look at what a module made at import.
        lines: Module path -> line -> tests that run it.
        at_import: Module path -> lines that run outside of any test.
        loaded: Modules of others that the tests need, in the order in which they were loaded first.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[int, set[str]]]
    at_import: dict[str, set[int]]
    loaded: list[str]

    def order(self, mutant: Mutant) -> list[str]:
        """Return the tests for a mutant: those that run its lines first, and among each kind the quickest first.

        The others are there because a test may depend on what a fixture or a cache has kept from an earlier one, or on
        what a module has made at import. Of them the slow ones are left out, and those of files that do not reach a
        function: at worst a mutant survives that they would have killed.
        """
        lines = self.lines[mutant.module]
        first, last = mutant.lines if mutant.outermost else (1, max(lines, default=1))
        reaching = {test for line in range(first, last + 1) for test in lines.get(line, ())}
        files = {_file(test) for test in (reaching if mutant.outermost and reaching else self.seconds)}
        others = {test for test, seconds in self.seconds.items() if seconds <= _SLOW_SECONDS and _file(test) in files}
        return sorted(reaching | others, key=lambda test: (test not in reaching, self.seconds[test], test))

    def files(self, module: str) -> list[str]:
        """Return the files whose tests reach a module."""
        return sorted({_file(test) for tests in self.lines[module].values() for test in tests})

    def works_at_import(self, mutant: Mutant) -> bool:
        """Say whether the mutant is needed in place before anything of ours is imported."""
        first, last = mutant.lines
        lost_cell = "super()" in mutant.before and "super()" not in mutant.after  # its code does not fit the function
        early = any(first <= line <= last for line in self.at_import[mutant.module])
        return mutant.outermost is None or early or lost_cell


def _file(test: str) -> str:
    return test.partition("::")[0]


class _Deterministic:
    """The same examples in every run, and no time spent on making a failing one smaller."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            function = getattr(item, "function", None)
            chosen = getattr(function, "_hypothesis_internal_use_settings", None)
            if chosen is not None:
                # The one place where the settings of a test stand.
                function._hypothesis_internal_use_settings = settings(  # type: ignore[union-attr]  # noqa: SLF001
                    chosen,
                    derandomize=True,
                    database=None,
                    deadline=None,
                    phases=(Phase.explicit, Phase.generate),
                    suppress_health_check=list(HealthCheck),
                )


class _Durations:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.problems: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.problems.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.problems.append(report.nodeid)


class _FirstFailureEnds:
    """Leaves the process at the first failure, with a limit on each test."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self._seconds = seconds

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        limit(_LEAST_SECONDS + 10 * self._seconds.get(item.nodeid, 0.0))
        result = yield
        no_limit()
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            print(f"mutants: {report.nodeid}\n{report.longreprtext}", file=sys.stderr, flush=True)
            name_killer(report.nodeid)
            os._exit(KILLED)


def _pytest(plan: Plan, plugins: list[object], tests: Sequence[str] = ()) -> int:
    os.chdir(plan.root)
    return int(pytest.main([*_OPTIONS, *(tests or plan.tests)], plugins=[_Deterministic(), *plugins]))


def learn(plan: Plan, file: Path) -> None:
    """Run all tests with coverage and write what they reach.

    Raises:
        BrokenRunError: Tests fail without any mutant.
    """
    durations = _Durations()
    data_file = file.with_suffix(".coverage")
    measured = coverage.Coverage(
        data_file=str(data_file), config_file=False, include=[str(plan.root / one) for one in plan.modules]
    )
    plugin = _Contexts(measured)
    measured.start()
    try:
        status = _pytest(plan, [durations, plugin])
    finally:
        measured.stop()
        measured.save()
    if status != 0 or durations.problems:
        raise BrokenRunError(f"tests fail without any mutant (status {status}): {', '.join(durations.problems[:5])}")
    data = measured.get_data()
    lines = {module: dict(data.contexts_by_lineno(str(plan.root / module))) for module in plan.modules}
    data_file.unlink()
    not_for_all = plan.ours | {"tests", "conftest", "mutation", "__main__", "__mp_main__"}
    found = {
        "seconds": durations.seconds,
        "lines": lines,
        "loaded": [name for name in sys.modules if name.partition(".")[0] not in not_for_all],
    }
    file.write_text(json.dumps(found))


class _Contexts:
    """Tells coverage which test is running."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self._measured = measured

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._measured.switch_context(item.nodeid)
        result = yield
        self._measured.switch_context("")
        return result


def read_reach(file: Path) -> Reach:
    """Return what `learn` has written."""
    found = json.loads(file.read_text())
    lines = {
        module: {int(line): set(tests) - {""} for line, tests in by_line.items()}
        for module, by_line in found["lines"].items()
    }
    at_import = {
        module: {int(line) for line, tests in by_line.items() if "" in tests}
        for module, by_line in found["lines"].items()
    }
    return Reach(found["seconds"], lines, at_import, found["loaded"])


def load_others(reach: Reach) -> None:
    """Import what the tests need of others, so that children have it."""
    for name in reach.loaded:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001, S112  # a module that was made by hand, or can be imported only by its own package
            continue
    gc.collect()
    gc.freeze()


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves one module with a fault in it."""

    def __init__(self, name: str, path: Path, data: bytes) -> None:
        self._name, self._path, self._data = name, path, data

    def find_spec(self, fullname: str, *_where: object) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        is_package = self._path.name == "__init__.py"
        spec = importlib.util.spec_from_loader(fullname, self, origin=str(self._path), is_package=is_package)
        if spec is not None and is_package:
            spec.submodule_search_locations = [str(self._path.parent)]
        return spec

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(self._path)
        exec(compile(self._data, str(self._path), "exec"), vars(module))  # noqa: S102  # the module itself


class _Ordered:
    """Runs chosen tests, in their order."""

    def __init__(self, order: Sequence[str]) -> None:
        self._places = {test: place for place, test in enumerate(order)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self._places]
        items[:] = sorted(chosen, key=lambda item: self._places[item.nodeid])


def judge_at_import(plan: Plan, reach: Reach, mutant: Mutant, *, wide: bool) -> int:
    """Import everything of ours with the mutant and run the tests. For a child that has nothing of ours yet.

    Unless `wide`, only the files whose tests reach the module are run: most mutants need no more.
    """
    path = plan.root / mutant.module
    data = Source(plan.sources[mutant.module]).replaced(mutant.edit)
    sys.meta_path.insert(0, _Mutated(plan.modules[mutant.module], path, data))
    plugins: list[object] = [_FirstFailureEnds(reach.seconds), _Ordered(reach.order(mutant))]
    files = () if wide else reach.files(mutant.module)
    passed = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)  # no test is no test that failed
    return SURVIVED if _pytest(plan, plugins, files) in passed else KILLED


class _InsteadOfTests:
    """Once the tests are collected, does something else."""

    def __init__(self, action: Callable[[dict[str, pytest.Item]], None]) -> None:
        self._action = action

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if not session.testsfailed:
            self._action({item.nodeid: item for item in session.items})
        return True


def with_collected(plan: Plan, reach: Reach, action: Callable[[Callable[[Mutant], int]], None]) -> None:
    """Collect all tests and hand on a function that judges a mutant in a child of this process.

    Raises:
        BrokenRunError: Pytest ended before the action had.
    """
    done: list[BaseException | None] = []

    def act(items: dict[str, pytest.Item]) -> None:
        gc.collect()
        gc.freeze()
        try:
            action(lambda mutant: _judge_in_function(plan, reach, items, mutant))
        except BaseException as error:  # noqa: BLE001  # not for pytest to report: raised again below
            done.append(error)
        else:
            done.append(None)

    _pytest(plan, [_FirstFailureEnds(reach.seconds), _InsteadOfTests(act)])
    if not done:
        raise BrokenRunError("the tests cannot be collected without any mutant")
    if done[0] is not None:
        raise done[0]


def _judge_in_function(plan: Plan, reach: Reach, items: Mapping[str, pytest.Item], mutant: Mutant) -> int:
    path = plan.root / mutant.module
    if mutant.outermost is not None:
        code = compile(Source(plan.sources[mutant.module]).replaced(mutant.edit), str(path), "exec")
        _function(sys.modules[plan.modules[mutant.module]], mutant.outermost).__code__ = _code(code, mutant.outermost)
    tests = [items[test] for test in reach.order(mutant)]
    try:
        for test, following in zip(tests, [*tests[1:], None], strict=True):
            test.ihook.pytest_runtest_protocol(item=test, nextitem=following)
    except BaseException:  # noqa: BLE001  # an interrupt, say, that the tests provoke and the mutant lets through
        return KILLED
    return SURVIVED


def _code(code: CodeType, name: str) -> CodeType:
    """Return the code of a function by its dotted name; of several, the last, as in a module."""
    first, _, rest = name.partition(".")
    inner = [one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == first][-1]
    return _code(inner, rest) if rest else inner


def _function(holder: Any, name: str) -> FunctionType:
    """Return a function or method by its dotted name, out of whatever decorators have wrapped around it."""
    for part in name.split("."):
        holder = vars(holder)[part]
    while not isinstance(holder, FunctionType) or hasattr(holder, "__wrapped__"):
        for attribute in ("__wrapped__", "__func__", "fget", "func"):
            if hasattr(holder, attribute):
                holder = getattr(holder, attribute)
                break
        else:
            raise BrokenRunError(f"{name} is no function")
    return holder
