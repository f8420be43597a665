"""Fixtures for every test."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no failure: no property is about time.
settings.register_profile("mcbn", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mcbn")


_FOLDER = Path(__file__).parent
# The tests whose coverage is held against the floors of `make test`: a module's own. Elsewhere measuring would double
# the time, and a line that is only passed through on the way to something else is not tested by that.
_MEASURED = tuple(
    _FOLDER / "unit" / name
    for name in ("protocol", "broker/appraisal", "broker/attestation", "workload/channels", "workload/epoch_keys")
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave coverage out where it does not count."""
    for item in items:
        if not any(item.path.is_relative_to(folder) for folder in _MEASURED):
            item.add_marker("no_cover")


@pytest.fixture(scope="session")
def require_tool() -> Callable[..., str]:
    """Give `require_tool("openssl")`: the path of a foreign program, or a skip that says how to get it.

    With `MCBN_REQUIRE_PEERS` set, as in continuous integration, a missing program is a failure: a test that is skipped
    there for good would look like one that passes.
    """

    def find(program: str, package: str | None = None) -> str:
        path = shutil.which(program)
        if path is not None:
            return path
        message = f"{program} is missing: install it (Debian: apt-get install {package or program})"
        if os.environ.get("MCBN_REQUIRE_PEERS"):
            pytest.fail(message)
        pytest.skip(message)

    return find


@pytest.fixture(scope="session")
def evidence() -> Path:
    """Give the folder of tokens and claims that were captured in public. They are not part of the project.

    `MCBN_EVIDENCE` names it; without it, a skip. With `MCBN_REQUIRE_EVIDENCE` set, as in continuous integration, a
    failure.
    """
    folder = os.environ.get("MCBN_EVIDENCE")
    if folder and Path(folder).is_dir():
        return Path(folder)
    message = "MCBN_EVIDENCE names no folder of captured tokens and claims"
    if os.environ.get("MCBN_REQUIRE_EVIDENCE"):
        pytest.fail(message)
    pytest.skip(message)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have measured and kept with `record_property("figure", ...)`, also when they pass."""
    for report in (one for reports in terminalreporter.stats.values() for one in reports):
        if isinstance(report, pytest.TestReport) and report.when == "call":
            for name, value in report.user_properties:
                if name == "figure":
                    terminalreporter.write_line(f"figure: {value}")
