"""docs/reference says what the code says, and the generator notices when it does not."""

import subprocess
import sys
import tomllib

import pytest
from pydantic import BaseModel

from mcbn_broker.appraisal.policy import Policy
from mcbn_broker.settings import Settings


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
    help_page, errors, exits = generator.typer_page("mcbn-broker"), generator.errors_page(), generator.exit_codes_page()
    for command in ("init", "consent-key new", "manifest sign", "audit verify", "consent pause", "serve"):
        assert f"\n## `mcbn-broker {command}`\n" in help_page
    assert "| `challenge_used` | 409 |" in errors
    assert "| 5 | verification |" in exits


def test_every_command_of_workload_and_simulator_is_there(generator):
    workload, simulator = generator.workload_cli_page(), generator.typer_page("mcbn-simulator")
    assert all(f"\n## `mcbn-workload {name}`\n" in workload for name in ("server", "client", "probe", "derive"))
    assert all(f"\n## `mcbn-simulator {name}`\n" in simulator for name in ("demo", "issuer", "launcher", "token"))


def test_every_command_of_the_image_builder_is_there(generator):
    page = generator.images_cli_page()
    assert all(f"\n## `mcbn-images {name}`\n" in page for name in ("build", "verify", "extend", "lock", "record"))
    assert "| 3 | superseded |" in generator.exit_codes_page()


def test_every_setting_is_there_with_its_default_and_environment_name(generator):
    page = generator.broker_settings_page()
    assert all(f"| `{name}` |" in page and f"`MCBN_{name.upper()}`" in page for name in Settings.model_fields)
    assert "| `listen` | `127.0.0.1:8443` | `MCBN_LISTEN` |" in page


def test_every_member_of_the_policy_is_there_and_the_example_is_one(generator):
    page = generator.policy_page()
    assert all(f"| `{name}` |" in page for name in Policy.model_fields)
    assert generator.POLICY_EXAMPLE in page
    assert Policy.model_validate(tomllib.loads(generator.POLICY_EXAMPLE)).maximum_token_age_seconds == 300


def test_setting_without_a_meaning_is_noticed(generator):
    class Undescribed(BaseModel):
        """Attributes are described elsewhere."""

        listen: str

    with pytest.raises(ValueError, match="listen"):
        generator.meanings(Undescribed)


def test_help_does_not_depend_on_the_terminal(generator, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    narrow, workload = generator.typer_page("mcbn-broker"), generator.workload_cli_page()
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert generator.typer_page("mcbn-broker") == narrow
    assert generator.workload_cli_page() == workload
    assert "\x1b" not in narrow


def test_unknown_argument_is_refused(generator):
    assert generator.main(["--chekc"]) == 2
