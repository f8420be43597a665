"""What the peers' tests share, and the pages that a run of them writes: `--interop-table` and `--sample-page`."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop import sample_lines
from tests.interop.interop_table import Meeting, page, unmet
from tests.interop.peers import SCRIPTS

_PROPERTY = "met"
_SAMPLE_LINE = "sample_line"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--interop-table", metavar="FILE", type=Path, help="write the page of peers if all were met")
    parser.addoption("--sample-page", metavar="FILE", type=Path, help="write the sample's lines into their page")


def pytest_configure(config: pytest.Config) -> None:
    """Only the process that talks to the caller writes; pytest-xdist's workers only run tests."""
    if hasattr(config, "workerinput"):
        return
    for option, listener in (("interop_table", _Table), ("sample_page", _SamplePage)):
        file: Path | None = config.getoption(option, default=None)
        if file is not None:
            config.pluginmanager.register(listener(file))


@pytest.fixture
def seen(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Say at a test's end which peer it met: name, channel, suite, which end was ours, and our engine."""

    def met(peer: str, channel: str, suite: str, ours: str, engine: str = "pyopenssl") -> None:
        record_property(_PROPERTY, [peer, channel, suite, ours, str(engine)])

    return met


@pytest.fixture(scope="session")
def pion(require_tool: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The peer, built once from Debian's package of pion."""
    go = require_tool("go", "golang-go")
    folder = tmp_path_factory.mktemp("pion")
    environment = os.environ | {
        "GO111MODULE": "off",
        "GOPATH": "/usr/share/gocode",
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
    }
    built = folder / "pion_peer"
    made = subprocess.run(
        [go, "build", "-o", built, SCRIPTS / "pion_peer.go"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        require_tool("pion-dtls-is-missing", "golang-github-pion-dtls.v2-dev")
        pytest.fail(made.stderr)
    return built


class _Table:
    """Listens to the reports of a run, and writes the page at its end."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._met: set[Meeting] = set()
        self._skipped = 0
        self._said = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._skipped += report.skipped
        if report.when == "call" and report.passed:
            for name, value in report.user_properties:
                if name == _PROPERTY and isinstance(value, list):
                    self._met.add(Meeting(*value))

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        missing = unmet(self._met)
        if exitstatus == pytest.ExitCode.OK and not missing and not self._skipped:
            self._file.write_text(page(self._met), encoding="utf-8")
            self._said = f"{self._file}: {len(self._met)} meetings"
        else:
            why = ", ".join(map(str, missing)) or f"{self._skipped} skipped, exit status {exitstatus}"
            self._said = f"{self._file} is left as it was: {why}"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(self._said)


class _SamplePage:
    """Puts the original sample's lines into their page, after a run in which each did what the page says."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ran: set[object] = set()
        self._said = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            self._ran |= {value for name, value in report.user_properties if name == _SAMPLE_LINE}

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        missing = {line.name for line in sample_lines.LINES} - self._ran
        if exitstatus != pytest.ExitCode.OK or missing:
            self._said = f"{self._file} is left as it was: {', '.join(sorted(missing)) or f'exit status {exitstatus}'}"
            return
        page = self._file.read_text(encoding="utf-8")
        made = sample_lines.table(sample_lines.openssl_version())
        self._file.write_text(sample_lines.insert(page, made), encoding="utf-8")
        self._said = f"{self._file}: {len(self._ran)} lines of the sample"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(self._said)
