"""docs/reference says what the code says, and the generator notices when it does not."""

import subprocess
import sys

import pytest


@pytest.fixture
def generator(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "tools"))
    return __import__("generate_reference")


def test_reference_is_what_the_code_says(root):
    words = [sys.executable, str(root / "tools" / "generate_reference.py"), "--check"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_drift_is_named(generator, tmp_path, monkeypatch, capsys, damage):
    monkeypatch.setattr(generator, "REFERENCE", tmp_path / "reference")
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0
    page = tmp_path / "reference" / "errors.md"
    if damage == "changed":
        page.write_text(page.read_text().replace("409", "410"))
    else:
        page.unlink()
    assert generator.main(["--check"]) == 1
    assert "errors.md is not what the code says" in capsys.readouterr().err


def test_every_command_and_every_code_is_there(generator):
    help_page, errors, exits = generator.broker_cli_page(), generator.errors_page(), generator.exit_codes_page()
    for command in ("init", "consent-key new", "manifest sign", "audit verify", "consent pause", "serve"):
        assert f"\n## `mcbn-broker {command}`\n" in help_page
    assert "| `challenge_used` | 409 |" in errors
    assert "| 5 | verification |" in exits


def test_help_does_not_depend_on_the_terminal(generator, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    narrow = generator.broker_cli_page()
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert generator.broker_cli_page() == narrow
    assert "\x1b" not in narrow


def test_unknown_argument_is_refused(generator):
    assert generator.main(["--chekc"]) == 2
