"""The help of `mcbn-simulator`: whole sentences, and examples that work as they are written."""

from typer.testing import CliRunner

from mcbn_simulator.cli import app


def shown(*words: str) -> str:
    """Return the help of a command at 80 columns."""
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, [*words, "--help"])
    assert result.exit_code == 0, result.output
    return result.output


def test_no_summary_is_cut_off_at_80_columns() -> None:
    _head, commands, listed = shown().partition("Commands:\n")
    assert commands
    assert "..." not in listed
