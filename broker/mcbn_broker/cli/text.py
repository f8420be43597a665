"""What a person reads: standard error for talk, standard output for data; text of others made harmless."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

_PLAIN_WIDTH: Final = 160  # where there is no terminal, lines are for grep


def printable(text: str) -> str:
    """Return text with everything but printable characters escaped.

    A manifest is written by somebody else: an escape sequence or a right-to-left mark in it could hide terms from
    whoever reads them before signing.
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def say(text: str) -> None:
    """Tell the person something, on standard error."""
    typer.echo(text, err=True)


def say_next(text: str) -> None:
    """Tell the person what to do next, on standard error."""
    typer.echo(f"Next: {text}", err=True)


def warn(text: str) -> None:
    """Tell the person loudly, on standard error, in red where there is colour."""
    console(talk=True).print(Text(f"WARNING: {text}", style="bold red"), soft_wrap=True)


def console(*, talk: bool = False) -> Console:
    """Return a console for standard output, or standard error. Rich itself honours NO_COLOR."""
    width = None if (sys.stderr if talk else sys.stdout).isatty() else _PLAIN_WIDTH
    return Console(stderr=talk, highlight=False, markup=False, emoji=False, width=width)


def emit_json(value: Mapping[str, Any]) -> None:
    """Write one JSON object to standard output."""
    typer.echo(json.dumps(value, indent=2))


def show_facts(title: str, facts: Sequence[tuple[str, str]], *, talk: bool = False) -> None:
    """Show names and values."""
    show_rows(title, ("", ""), facts, talk=talk)


def show_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, talk: bool = False) -> None:
    """Show a table. Long values are folded, never cut: a digest has to be readable to its last digit."""
    table = Table(title=title, title_justify="left", box=SIMPLE, show_header=any(columns))
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console(talk=talk).print(table)
