"""The command `mcbn-simulator demo`."""

from enum import StrEnum
from typing import Annotated

import typer


class Output(StrEnum):
    """What standard output gets."""

    TABLE = "table"
    JSON = "json"


def demo(
    *,
    output: Annotated[Output, typer.Option(help="A table at the end, or one JSON object for each act.")] = Output.TABLE,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the folder with keys, databases and logs.")] = False,
) -> None:
    """Show the whole system at work, on this machine alone.

    Three brokers, two workloads and a channel, all of them real programs.

    Exit codes: 0 every act went as expected, 1 one did not, 130 after Ctrl-C.
    """
    from mcbn_simulator.demo.play import play  # noqa: PLC0415  # the other commands need none of it to start

    raise typer.Exit(play(as_json=output is Output.JSON, keep=keep))
