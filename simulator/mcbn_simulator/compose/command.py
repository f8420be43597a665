"""The command `mcbn-simulator compose`: prepares what `docker-compose.yml` starts."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from mcbn_simulator.compose.stage import prepare
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.processes import DemoError, script

_NEXT: Final = """\
for image in {folder}/images/*.tar {folder}/simulator-image/*.tar; do docker load --input "$image"; done
docker-compose --env-file {folder}/env up --detach
docker-compose --env-file {folder}/env logs --follow visitor"""


def compose(
    *,
    out: Annotated[Path, typer.Option(help="Where to put it; must not exist.")] = Path("build/compose"),
) -> None:
    """Prepare what docker-compose.yml starts.

    Three participants agree, their images are built, and two operators' VMs are described. Standard output has the
    commands to type next.
    """
    narrator = Narrator(Console(stderr=True))
    narrator.warning("SIMULATED CONFIDENTIAL SPACE: this shows how MCBN works, and protects nothing.")
    try:
        asyncio.run(prepare(out.resolve(), [script("mcbn-images")], narrator))
    except DemoError as error:
        narrator.bad(error.what, error.log)
        raise typer.Exit(1) from error
    sys.stdout.write(_NEXT.format(folder=out) + "\n")
