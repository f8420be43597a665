"""A short run of every fuzz target, and what the runner makes of a crash, a hang and a leak."""

import ast
import importlib.util
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import mcbn_protocol
from tests.fuzz.sessions import TARGETS, Limits, Session, target_names

RUNNER = Path(__file__).with_name("run.py")
RUNS = 800
PARTS = {"MutualTlsTerms", "ConfidentialSpaceReference"}
"""Read as a part of a manifest only."""

FAULTS = {
    "crash": ("raise LookupError('planted')", "LookupError: planted"),
    "hang": ("while True: pass", "timeout"),
    "memory": ("KEPT.append(bytearray(b'x' * (64 << 20)))", "out-of-memory"),
    "exit": ("raise SystemExit(3)", "SystemExit"),
}
PLANTED = """
KEPT = []
WORDS = (b"\\x7f\\x7f",)

def seeds():
    return [b"abc"]

def target(data):
    if data[:1] == b"\\x7f":
        {fault}
"""


@pytest.fixture(scope="module", autouse=True)
def atheris():
    """It is a locked dependency where it has wheels, and missing there is a fault of the environment."""
    if importlib.util.find_spec("atheris") is not None:
        return
    python = f"{platform.python_version()} on {sys.platform}, {platform.machine()}"
    if (sys.platform, platform.machine()) == ("linux", "x86_64"):
        pytest.fail(f"atheris is not installed for Python {python}, though it is locked: run `make clean environment`")
    pytest.skip(f"atheris has no wheels for Python {python}: nothing is fuzzed here")


def run(*arguments, **options):
    command = [sys.executable, str(RUNNER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, **options)


@pytest.fixture
def planted(tmp_path):
    """Give `planted(fault)`: a folder with one target that does this when the input begins with 7f."""

    def plant(fault):
        folder = tmp_path / "targets"
        folder.mkdir()
        (folder / "planted.py").write_text(PLANTED.format(fault=fault), encoding="utf-8")
        return folder

    return plant


@pytest.mark.parametrize("name", target_names(TARGETS))
def test_a_target_finds_nothing_in_a_short_run(name, tmp_path):
    """From the same seed each time. The executions are libFuzzer's own count."""
    outcome = Session(name, TARGETS, tmp_path).fuzz(Limits(timeout_seconds=10, memory_mib=2048, runs=RUNS))
    assert not outcome.broken, outcome.reason
    assert outcome.executions >= RUNS
    assert outcome.edges > 0, "nothing of ours was instrumented"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_kept_and_replayed(fault, planted, tmp_path):
    code, said = FAULTS[fault]
    corpus, folder = tmp_path / "corpus", planted(code)
    options = ["--targets", folder, "--timeout", 1, "--memory", 400]
    found = run("--runs", 20_000, "--corpus", corpus, *options)
    assert found.returncode == 1
    assert said in found.stdout
    (crash,) = (corpus / "planted" / "crashes").iterdir()
    assert crash.read_bytes()[:1] == b"\x7f"
    assert f"--replay {crash} --target planted" in found.stdout
    if fault != "memory":  # one input alone does not fill it
        again = run("--replay", crash, "--target", "planted", *options)
        assert again.returncode != 0
        assert said in again.stdout + again.stderr


def test_a_target_that_cannot_be_imported_is_a_failure(planted, tmp_path):
    folder = planted("pass")
    (folder / "planted.py").write_text("import nothing_of_that_name\n", encoding="utf-8")
    found = run("--runs", 10, "--corpus", tmp_path / "corpus", "--targets", folder)
    assert found.returncode == 1
    assert "nothing_of_that_name" in found.stdout


def test_the_figures_of_several_runs_are_added(planted, tmp_path):
    folder, figures = planted("pass"), tmp_path / "figures.json"
    for _ in range(2):
        done = run("--runs", 1000, "--corpus", tmp_path / "corpus", "--targets", folder, "--figures", figures)
        assert done.returncode == 0, done.stdout
    told = json.loads(figures.read_bytes())
    assert told["targets"]["planted"]["executions"] >= 2000
    assert told["totals"]["executions"] == told["targets"]["planted"]["executions"]
    assert told["totals"]["crashes"] == 0


def test_inputs_are_kept_from_a_timed_run(tmp_path):
    done = run("--seconds", 1, "--jobs", 1, "--corpus", tmp_path / "corpus", "--target", "envelope")
    assert done.returncode == 0, done.stdout
    assert list((tmp_path / "corpus" / "envelope" / "corpus").iterdir())


def test_every_file_of_the_folder_is_a_target():
    files = sorted(path.relative_to(TARGETS).with_suffix("").as_posix() for path in TARGETS.rglob("*.py"))
    assert run("--list").stdout.split() == files


def test_an_unknown_target_is_named():
    done = run("--target", "nonsense")
    assert done.returncode == 2
    assert "no such target: nonsense" in done.stderr


def test_every_parser_of_the_protocol_has_a_target():
    """What reads bytes or JSON is named by a target, or is a part of what another parser reads."""
    folder = Path(mcbn_protocol.__file__).parent
    found = {name for path in folder.rglob("*.py") for name in parsers(ast.parse(path.read_bytes()))}
    targets = "\n".join(path.read_text("utf-8") for path in TARGETS.glob("*.py"))
    assert {one for one in found if one not in targets} == PARTS


def parsers(module):
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and (node.name.startswith("parse_") or node.name.endswith("_decode")):
            yield node.name
        if isinstance(node, ast.ClassDef):
            methods = {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
            if methods & {"parse", "from_json", "from_payload", "from_envelope"}:
                yield node.name
