"""The grammar of `mcbn-images`: its examples are command lines of its own."""

import argparse
import shlex

import pytest

from mcbn_images.arguments import new_parser
from mcbn_images.definitions import IMAGES


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (found,) = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return dict(found.choices)


@pytest.mark.parametrize("name", ["build", "verify", "extend"])
def test_examples_are_understood(name):
    parser = new_parser()
    head, *lines = (subparsers(parser)[name].epilog or "").splitlines()
    assert (head, bool(lines)) == ("example:", True)
    for line in lines:
        program, *words = shlex.split(line)
        assert (program, parser.parse_args(words).command) == (parser.prog, name)


def test_help_of_only_says_which_three():
    shown = " ".join(subparsers(new_parser())["build"].format_help().split())
    assert f"the three ({', '.join(IMAGES)})" in shown
