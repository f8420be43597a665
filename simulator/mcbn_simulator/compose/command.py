"""The command `mcbn-simulator compose`: prepares what `docker-compose.yml` starts."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

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
    from mcbn_simulator.compose.stage import set_stage  # noqa: PLC0415  # the other commands need none of it to start

    if not set_stage(out.resolve()):
        raise typer.Exit(1)
    sys.stdout.write(_NEXT.format(folder=out) + "\n")
