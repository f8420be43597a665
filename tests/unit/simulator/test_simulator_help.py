"""The help of `mcbn-simulator`: whole sentences, and examples that work as they are written."""

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mcbn_simulator.cli import app
from mcbn_simulator.machine import SimulatedMachine


def shown(*words: str) -> str:
    """Return the help of a command at 80 columns."""
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*words, "--help"])
    assert result.exit_code == 0, result.output
    return result.output


def test_no_summary_is_cut_off_at_80_columns() -> None:
    _head, commands, listed = shown().partition("Commands:\n")
    assert commands
    assert "..." not in listed


@pytest.mark.parametrize("name", ["launcher", "token"])
def test_the_machine_of_the_example_is_one(tmp_path: Path, name: str) -> None:
    (line,) = [line for line in shown(name).splitlines() if "machine.json" in line and "echo" in line]
    subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, check=True)
    assert SimulatedMachine.load(tmp_path / "machine.json").image_digest == "sha256:" + 64 * "0"


@pytest.mark.parametrize("name", ["issuer", "launcher", "token"])
def test_every_command_has_an_example(name: str) -> None:
    assert "Example:\n" in shown(name)
    assert f"  mcbn-simulator {name} --" in shown(name)
