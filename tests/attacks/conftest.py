"""`--attack-table FILE` writes the page of attacks after a run of all of them."""

from pathlib import Path

import pytest

from tests.attacks.attack_table import page, read_attacks

_FOLDER = Path(__file__).parent
_PROPERTY = "attack"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--attack-table", metavar="FILE", type=Path, help="write the page of attacks if all of them passed"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Only the process that talks to the caller writes; pytest-xdist's workers only run tests."""
    file: Path | None = config.getoption("attack_table", default=None)
    if file is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Table(file))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name the attack in each test's reports, which is all that comes back from pytest-xdist's workers."""
    for item in items:
        if item.path.parent == _FOLDER and isinstance(item, pytest.Function):
            item.user_properties.append((_PROPERTY, f"{item.path.name}::{item.originalname}"))


class _Table:
    """Listens to the reports of a run, and writes the page at its end."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._cases: dict[str, int] = {}
        self._not_passed: set[str] = set()
        self._said = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = dict(report.user_properties).get(_PROPERTY)
        if not isinstance(name, str):
            return
        if report.outcome != "passed" or hasattr(report, "wasxfail"):
            self._not_passed.add(name)
        elif report.when == "call":
            self._cases[name] = self._cases.get(name, 0) + 1

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        attacks = read_attacks(_FOLDER)
        missing = {one.name for one in attacks} - self._cases.keys() | self._not_passed
        if exitstatus == pytest.ExitCode.OK and not missing:
            self._file.write_text(page(attacks, self._cases), encoding="utf-8")
            self._said = f"{self._file}: {len(attacks)} attacks, {sum(self._cases.values())} cases"
        else:
            named = ", ".join(sorted(missing)[:5]) or "an error outside of the attacks"
            self._said = f"{self._file} is left as it was: not everything ran and passed ({named})"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(self._said)
