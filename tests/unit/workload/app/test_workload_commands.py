"""Arguments, exit codes and the log's form, without a network."""

import io
import json
import logging
import subprocess
import sys

import pytest

from mcbn_protocol import __version__
from mcbn_workload.app import main
from mcbn_workload.app.logs import JsonLines
from mcbn_workload.errors import EXIT_CODES, ExitCode


@pytest.fixture(autouse=True)
def log_as_before():
    root, ours = logging.getLogger(), logging.getLogger("mcbn.workload")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], root.level, ours.level = before


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"mcbn-workload {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["serve"], ["derive", "--scheme", "md5", "x"], ["probe", "--conf", "x"]])
def test_a_wrong_command_line_is_exit_code_2(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == ExitCode.USAGE


def test_help_lists_variables_and_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "MCBN_BROKER_<NAME>" in text
    assert "MCBN_LISTEN" in text
    assert all(f"  {code.value}  " in text for code in ExitCode)


def test_every_exit_code_has_a_meaning():
    assert set(EXIT_CODES) == set(ExitCode)


def test_derive_prints_the_key_alone(tmp_path, capsys):
    files = [tmp_path / name for name in "ab"]
    for number, path in enumerate(files):
        path.write_text(f"{number + 1:064x}", encoding="ascii")
    assert main(["derive", "--scheme", "sha256-concat", *map(str, files)]) == 0
    output = capsys.readouterr()
    assert len(output.out) == 65
    assert json.loads(output.err)["event"] == "legacy_scheme"
    assert main(["derive", "--scheme", "hkdf-sha256", *map(str, files)]) == ExitCode.CONFIGURATION
    assert json.loads(capsys.readouterr().err)["code"] == "configuration_invalid"


def test_a_missing_configuration_is_exit_code_3(tmp_path, capsys):
    assert main(["server", "--config", str(tmp_path / "none.toml")]) == ExitCode.CONFIGURATION
    assert json.loads(capsys.readouterr().err)["event"] == "failed"


def test_a_fault_of_the_program_is_exit_code_1(monkeypatch, capsys):
    def broken(*_arguments):
        raise RuntimeError("bug")

    monkeypatch.setattr("mcbn_workload.app.combine_files", broken)
    assert main(["derive", "--scheme", "sha256-concat", "x"]) == ExitCode.FAILED
    assert json.loads(capsys.readouterr().err)["traceback"].endswith("\nRuntimeError")


def test_it_runs_as_a_module():
    result = subprocess.run(
        [sys.executable, "-I", "-m", "mcbn_workload", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout.startswith("mcbn-workload ")


def test_the_log_is_one_json_object_for_each_line():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("mcbn.test.form")
    logger.setLevel("INFO")
    logger.handlers = [handler]
    logger.propagate = False
    logger.warning("two\nlines %d", 1, extra={"event": "released", "participant": "bob", "odd": object})
    logger.info("plain")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["participant"], first["message"]) == ("released", "bob", "two\nlines 1")
    assert (second["event"], second["level"]) == ("log", "info")
