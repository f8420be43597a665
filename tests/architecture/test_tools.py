"""The scripts behind make: what they refuse, and that they say what to do next."""

import subprocess
import sys

import pytest


@pytest.fixture
def tool(root, monkeypatch):
    """Give `tool("bootstrap")`: the module of that script."""
    monkeypatch.syspath_prepend(str(root / "tools"))

    def load(name):
        return __import__(name)

    return load


@pytest.mark.parametrize("version", [(3, 9), (3, 10), (3, 14), (2, 7)])
def test_bootstrap_names_the_supported_pythons(tool, version):
    problem = tool("bootstrap").interpreter_problem(version, lambda module: True)
    assert "{}.{} is not supported".format(*version) in problem
    assert "3.11, 3.12 or 3.13" in problem
    assert "make PYTHON=" in problem


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_bootstrap_names_the_package_with_venv(tool, missing):
    problem = tool("bootstrap").interpreter_problem((3, 11), lambda module: module != missing)
    assert "python3-venv" in problem


def test_bootstrap_accepts_each_python_that_pyproject_states(tool, pyproject):
    supported = tool("bootstrap").SUPPORTED
    assert [tool("bootstrap").interpreter_problem(version, lambda module: True) for version in supported] == [""] * 3
    stated = {c.rpartition(" ")[2] for c in pyproject["project"]["classifiers"] if c.count(".") == 1}
    assert {"{}.{}".format(*version) for version in supported} == stated
    assert pyproject["project"]["requires-python"] == ">=3.11,<3.14"


def test_bootstrap_stops_before_it_touches_anything_when_venv_is_missing(root, tmp_path):
    """The whole script, in an interpreter that has no ensurepip, as Debian's has without python3-venv."""
    (tmp_path / "tools").mkdir()
    for name in ("bootstrap.py", "inputs.py"):
        (tmp_path / "tools" / name).write_bytes((root / "tools" / name).read_bytes())
    script = tmp_path / "tools" / "bootstrap.py"
    program = (
        f"import runpy, sys; sys.modules['ensurepip'] = None; runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("bootstrap: ")
    assert "python3-venv" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_environment_follows_lock_project_place_and_python(tool, root, tmp_path):
    digest = tool("inputs").environment_digest
    (tmp_path / "requirements").mkdir()
    lock, pyproject = tmp_path / "requirements" / "dev.txt", tmp_path / "pyproject.toml"
    lock.write_bytes((root / "requirements" / "dev.txt").read_bytes())
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    pyproject.write_text(text, encoding="utf-8")
    first = digest(tmp_path, "3.11")
    pyproject.write_text(text.replace("line-length = 120", "line-length = 100"), encoding="utf-8")
    assert digest(tmp_path, "3.11") == first
    assert digest(tmp_path, "3.12") != first
    assert digest(root, "3.11") != first
    pyproject.write_text(text.replace("mcbn_broker.__main__:main", "mcbn_broker.other:main"), encoding="utf-8")
    assert digest(tmp_path, "3.11") != first
    pyproject.write_text(text, encoding="utf-8")
    lock.write_text("", encoding="utf-8")
    assert digest(tmp_path, "3.11") != first


@pytest.mark.parametrize(
    ("recorded", "reason"),
    [
        ([], "dependencies have changed"),
        (["other lock dev.txt"], "dependencies have changed"),
        (["inputs other dev.txt"], "its text has changed"),
    ],
)
def test_stale_lock_is_named_with_its_reason(tool, recorded, reason):
    (problem,) = tool("check_locks").stale_locks(recorded, ["inputs lock dev.txt"])
    assert problem.startswith("requirements/dev.txt: ")
    assert reason in problem


def test_fresh_lock_passes(tool):
    assert tool("check_locks").stale_locks(["inputs lock dev.txt"], ["inputs lock dev.txt"]) == []


def report(**files):
    """Return a coverage report of files given as (covered lines, lines, covered branches, branches)."""
    names = ("covered_lines", "num_statements", "covered_branches", "num_branches")
    return {"files": {name: {"summary": dict(zip(names, numbers, strict=True))} for name, numbers in files.items()}}


@pytest.mark.parametrize(
    ("numbers", "good"),
    [((95, 100, 19, 20), True), ((94, 100, 20, 20), False), ((100, 100, 18, 20), False)],
)
def test_coverage_floor_holds_for_statements_and_for_branches(tool, numbers, good):
    verdict, sentence = tool("check_coverage").judge(report(**{"a/b/c.py": numbers}), "a/b", 95.0)
    assert verdict is good
    assert ("below the floor" in sentence) is not good


def test_coverage_of_a_package_that_is_not_in_the_report_fails(tool):
    verdict, sentence = tool("check_coverage").judge(report(**{"a/bc/d.py": (1, 1, 1, 1)}), "a/b", 95.0)
    assert verdict is False
    assert "not in the coverage report" in sentence
