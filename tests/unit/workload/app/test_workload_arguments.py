"""The grammar of `mcbn-workload`: each command's help says which variables it reads."""

import re

import pytest

from mcbn_workload.app.arguments import new_parser

BOTH = ["MCBN_MANIFEST", "MCBN_LOG_LEVEL", "MCBN_BROKER_<NAME>"]


@pytest.mark.parametrize(("command", "own"), [("server", ["MCBN_LISTEN"]), ("client", ["MCBN_CONNECT"]), ("probe", [])])
def test_help_names_the_environment_of_the_command(capsys, command, own):
    with pytest.raises(SystemExit):
        new_parser().parse_args([command, "--help"])
    _head, found, shown = capsys.readouterr().out.partition("environment:\n")
    assert found
    assert re.findall(r"^  (MCBN_\S+)", shown, re.MULTILINE) == [*own, *BOTH]
    assert f"{command}: " not in shown
