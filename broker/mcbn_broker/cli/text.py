"""What a person reads: standard error for talk, standard output for data; text of others made harmless."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

_PLAIN_WIDTH: Final = 160  # where there is no terminal, lines are for grep
_DIGEST: Final = re.compile(r"(?:sha256:)?[0-9a-f]{32,}")


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
    """Show a table. Long values are folded, never cut: a digest has to be readable to its last digit.

    A digest is not folded either, because people compare it: where the table would, the values are listed instead, and
    a digest that has no room beside its name is on a line of its own.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    target, table = console(talk=talk), _table(title, columns, shown)
    if _keeps_digests(target, table, shown):
        target.print(table)
        return
    blocks = [list(zip(columns, row, strict=True)) for row in shown] if any(columns) else [_pairs(shown)]
    target.print(Text(title, style="table.title"))
    for block in blocks:
        target.print()
        _show_listed(target, block)
    target.print()


def _table(title: str, columns: Sequence[str], shown: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE, show_header=any(columns))
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in shown:
        table.add_row(*map(Text, row))
    return table


def _keeps_digests(target: Console, table: Table, shown: Sequence[Sequence[str]]) -> bool:
    digests = {digest for row in shown for cell in row for digest in _DIGEST.findall(cell)}
    if not digests:
        return True
    with target.capture() as rendered:
        target.print(table)
    return all(digest in rendered.get() for digest in digests)


def _pairs(shown: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in shown]


def _show_listed(target: Console, facts: Sequence[tuple[str, str]]) -> None:
    """Show names and values below one another."""
    width = max(len(name) for name, _value in facts)

    def has_no_room(fact: tuple[str, str]) -> bool:
        return _DIGEST.search(fact[1]) is not None and len(f"  {'':{width}}  {fact[1]}") > target.width

    for apart, run in groupby(facts, key=has_no_room):
        if apart:
            for name, value in run:
                target.print(Text(f"  {name}"))
                target.print(Text(f"    {value}"), soft_wrap=True)
        else:
            columns = (Column(min_width=width), Column(overflow="fold"))
            grid = Table(*columns, box=None, show_header=False, padding=(0, 0, 0, 2))
            for name, value in run:
                grid.add_row(Text(name), Text(value))
            target.print(grid)
