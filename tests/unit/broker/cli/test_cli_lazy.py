"""Commands are imported when they are typed: what a command does not need, it does not wait for."""

import subprocess
import sys

import pytest
from typer.main import get_command

from mcbn_broker.cli.root import app

HEAVY = ["sqlalchemy", "httpx", "fastapi", "mcbn_broker.cli.policy"]


def imported_by(*words: str) -> set[str]:
    program = (
        "import sys; from mcbn_broker.__main__ import main\n"
        f"sys.argv = ['mcbn-broker', *{words!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('\\n'.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines())


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["consent-key", "new", "--help"],
        ["card", "--help"],
        ["roster", "show", "--help"],
        ["manifest", "draft", "--help"],
        ["manifest", "sign", "--help"],
        ["manifest", "bundle", "--help"],
    ],
)
def test_a_command_without_a_database_imports_none(words):
    modules = imported_by(*words)
    assert "mcbn_broker.cli.root" in modules
    assert modules.isdisjoint(HEAVY)


def test_a_pause_imports_no_http_and_no_appraisal():
    modules = imported_by("consent", "pause", "--help")
    assert "sqlalchemy" in modules
    assert modules.isdisjoint(["httpx", "fastapi", "mcbn_broker.cli.policy"])


def test_every_name_leads_to_a_command_of_that_name():
    def names(group):
        for name, command in group.commands.items():
            assert command.name == name
            yield name
            if hasattr(command, "commands"):
                yield from (f"{name} {below}" for below in names(command))

    found = list(names(get_command(app)))
    assert len(found) == len(set(found))
    assert {"init", "restore", "backup", "consent pause", "manifest accept", "manifest bundle"} <= set(found)


def test_a_misspelt_command_is_answered_with_the_right_one(command):
    assert "Did you mean 'status'?" in command("staus").err
