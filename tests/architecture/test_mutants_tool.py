"""The mutation tool on a small project: what it calls killed was killed by that mutant and by nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = '''\
"""A module under mutation."""

LIMIT = 3
KEPT = 64


def within(number):
    return number < LIMIT


def unwatched(number):
    return number + KEPT


def ends(numbers):
    while numbers:
        numbers.pop()
    return numbers
'''
TESTS = """\
import time

from judged import ends, within


def test_within(tmp_path):
    file = tmp_path / "number"
    file.write_text("2")
    for _ in range(50):  # files that another process clears away would be missed
        assert within(int(file.read_text()))
        time.sleep(0.001)
    assert not within(3)


def test_ends():
    assert ends([1]) == []
"""
JUDGE = """\
import json, sys
from pathlib import Path
from mutation.plan import Plan
from mutation.results import Results
from mutation.run import all_mutants, run
root = Path(sys.argv[1])
plan = Plan(root, {"judged.py": "judged"}, ("tests",), frozenset({"judged"}))
results = Results(root / "build" / "mutants.json", plan)
outcomes = run(plan, all_mutants(plan), results, jobs=4)
print(json.dumps([[one.function, one.before, one.after, outcome.value] for one, outcome in outcomes.items()]))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def outcomes(project, root) -> dict[tuple[str, str], str]:
    """Outcome by function and by what the mutant has instead."""
    (project / "judged.py").write_text(MODULE)
    (project / "tests").mkdir()
    (project / "tests" / "test_judged.py").write_text(TESTS)
    (project / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    paths = os.pathsep.join([str(root / "tools"), str(project)])
    result = subprocess.run(
        [sys.executable, "-c", JUDGE, project],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return {(function, after.strip()): outcome for function, _, after, outcome in json.loads(result.stdout)}


def test_what_a_test_notices_is_killed(outcomes):
    assert {outcomes["within", f"return number {other} LIMIT"] for other in ("<=", ">=")} == {"killed"}
    assert outcomes["<module>", "LIMIT = 4"] == "killed"


def test_what_no_test_looks_at_survives_however_many_are_judged_at_once(outcomes):
    found = {after: outcome for (function, after), outcome in outcomes.items() if function == "unwatched"}
    assert len(found) >= 2
    assert set(found.values()) == {"survived"}
    assert outcomes["<module>", "KEPT = 65"] == "survived"


def test_what_never_ends_is_stopped(outcomes):
    assert outcomes["ends", "pass"] == "timed out"


def test_what_is_judged_is_kept(outcomes, project):
    kept = json.loads((project / "build" / "mutants.json").read_text())
    assert sum(map(len, kept.values())) == len(outcomes)
