"""`mcbn-broker manifest accept`: from the bundle to a broker that may release."""

from pathlib import Path
from typing import Annotated

import typer

from mcbn_broker.cli.documents import naming, read_bundle
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.manifest.terms_view import terms_warnings, warn_of_expiry
from mcbn_broker.cli.options import DataDir
from mcbn_broker.cli.stores import open_keyless_store
from mcbn_broker.cli.text import say, say_next, warn
from mcbn_broker.moments import moment
from mcbn_broker.release.consent import ConsentState

app = typer.Typer()


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
    warn_of_expiry(agreed.manifest, "it was accepted before; agree on the next epoch")
    validity = f"{moment(agreed.manifest.valid_from)} to {moment(agreed.manifest.valid_until)}"
    say(f"Epoch {agreed.manifest.epoch} is accepted: {agreed.hash.hex()}, valid from {validity}.")
    if consent.state is ConsentState.PAUSED:
        say_next("consent is paused, so nothing is released: mcbn-broker consent allow; and mcbn-broker serve")
    else:
        say("Consent is allowed already, and holds for this epoch too; mcbn-broker consent pause ends it.")
