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


NAMES = """
init card backup restore status serve
consent-key new
roster build | show
share new
manifest template | draft | show | sign | bundle | accept
consent show | allow | pause
policy explain | lint
audit tail | verify | head
"""


def expected() -> set[tuple[str, ...]]:
    verbs, *nouns = NAMES.strip().splitlines()
    below = [(noun, one) for noun, _, words in (line.partition(" ") for line in nouns) for one in words.split(" | ")]
    return {(verb,) for verb in verbs.split()} | set(below)


def test_every_name_leads_to_its_own_command():
    """A name under which another module stands would be a noun with that module's commands below it."""

    def commands(group, above=()):
        for name, command in group.commands.items():
            assert command.name == name
            if hasattr(command, "commands"):
                yield from commands(command, (*above, name))
            else:
                yield (*above, name)

    found = list(commands(get_command(app)))
    assert len(found) == len(set(found))
    assert set(found) == expected()


def test_a_misspelt_command_is_answered_with_the_right_one(command):
    assert "Did you mean 'status'?" in command("staus").err
