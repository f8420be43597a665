"""`mcbn-broker manifest bundle` and `accept`: from the signatures to a broker that may release."""

from pathlib import Path
from typing import Annotated

import typer

from mcbn_broker.ceremony.bundles import join_bundle
from mcbn_broker.ceremony.files import PUBLIC, write_new
from mcbn_broker.cli.documents import naming, read_bundle, read_draft, read_roster, read_signature
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.manifest.terms_view import terms_warnings
from mcbn_broker.cli.opening import now, open_keyless_store
from mcbn_broker.cli.options import DataDir, Force, Out, RosterPath
from mcbn_broker.cli.text import say, say_next, warn
from mcbn_broker.moments import moment
from mcbn_broker.release.consent import ConsentState
from mcbn_protocol.manifest import Manifest

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
    _warn_of_expiry(agreed.manifest, "no broker accepts this bundle; draft the next epoch")
    say(f"The bundle of epoch {agreed.manifest.epoch} is {out}. Manifest hash: {agreed.hash.hex()}")
    say_next(f"send {out} to every participant; at each broker: mcbn-broker manifest accept {out}")


@app.command(epilog=examples("mcbn-broker manifest accept bundle.json"))
def accept(
    file: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle with all signatures.")],
    *,
    data_dir: DataDir = None,
) -> None:
    """Accept a bundle at this broker. It rules from its valid_from on; releases need consent besides."""
    data = read_bundle(file)
    with open_keyless_store(data_dir) as store:
        with naming(file):
            agreed = store.accept_manifest(data)
        consent = store.consent()
    for text in terms_warnings(agreed.manifest):
        warn(text)
    _warn_of_expiry(agreed.manifest, "it was accepted before; agree on the next epoch")
    validity = f"{moment(agreed.manifest.valid_from)} to {moment(agreed.manifest.valid_until)}"
    say(f"Epoch {agreed.manifest.epoch} is accepted: {agreed.hash.hex()}, valid from {validity}.")
    if consent.state is ConsentState.PAUSED:
        say_next("consent is paused, so nothing is released: mcbn-broker consent allow; and mcbn-broker serve")


def _warn_of_expiry(manifest: Manifest, consequence: str) -> None:
    if now() >= manifest.valid_until:
        warn(f"this manifest expired at {moment(manifest.valid_until)}: {consequence}.")
