"""`mcbn-broker manifest bundle`: from the signatures to the file that brokers and workloads accept."""

from pathlib import Path
from typing import Annotated

import typer

from mcbn_broker.ceremony.bundles import join_bundle
from mcbn_broker.ceremony.files import PUBLIC, write_new
from mcbn_broker.cli.documents import read_draft, read_roster, read_signature
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.manifest.terms_view import warn_of_expiry
from mcbn_broker.cli.options import Force, Out, RosterPath
from mcbn_broker.cli.text import say, say_next

app = typer.Typer()


@app.command(
    epilog=examples("mcbn-broker manifest bundle manifest.json *.signature.json --roster roster.json --out bundle.json")
)
def bundle(
    manifest: Annotated[Path, typer.Argument(metavar="DRAFT", help="The draft that everybody signed.")],
    signatures: Annotated[list[Path], typer.Argument(metavar="SIGNATURE", help="Every participant's signature.")],
    *,
    roster: RosterPath,
    out: Out,
    force: Force = False,
) -> None:
    """Join all signatures into a bundle. Each is verified; the bundle is what brokers and workloads accept."""
    made = read_draft(manifest)
    agreed = join_bundle(made, [read_signature(path) for path in signatures], read_roster(roster))
    write_new(out, agreed.bundle, mode=PUBLIC, force=force)
    warn_of_expiry(agreed.manifest, "no broker accepts this bundle; draft the next epoch")
    say(f"The bundle of epoch {agreed.manifest.epoch} is {out}. Manifest hash: {agreed.hash.hex()}")
    say_next(f"send {out} to every participant; at each broker: mcbn-broker manifest accept {out}")
