"""`mcbn-broker init`: makes a participant's broker."""

import os
from typing import Annotated

import typer

from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.first_steps import make_card
from mcbn_broker.cli.options import DataDir, Kek, KekFile, KmsEndpoint
from mcbn_broker.cli.paths import resolve_data_dir, resolve_kek
from mcbn_broker.cli.text import say, say_next
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.moments import now
from mcbn_broker.storage.store import Store
from mcbn_protocol.errors import MalformedError
from mcbn_protocol.identifiers import check_name
from mcbn_protocol.participants import check_broker_url

app = typer.Typer()


def _name(value: str) -> str:
    try:
        return check_name(value)
    except MalformedError as error:
        raise typer.BadParameter(str(error)) from error


def _url(value: str) -> str:
    try:
        return check_broker_url(value)
    except MalformedError as error:
        raise typer.BadParameter(str(error)) from error


@app.command(
    epilog=examples(
        "mcbn-broker init --network demo --name alice --url https://broker.alice.example \\",
        "    --create-kek --kek-file ~/alice.kek",
    )
)
def init(
    *,
    network: Annotated[
        str, typer.Option(metavar="NAME", help="The network's name, the same at every participant.", callback=_name)
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="This participant's name in it.", callback=_name)],
    url: Annotated[str, typer.Option(metavar="URL", help="Where workloads will reach this broker.", callback=_url)],
    create_kek: Annotated[
        bool, typer.Option("--create-kek", help="Make the key-encryption key: in --kek-file, or wrapped by --kek.")
    ] = False,
    kek_file: KekFile = None,
    kek: Kek = None,
    kms_endpoint: KmsEndpoint = None,
    data_dir: DataDir = None,
) -> None:
    """Make this participant's broker. A folder, its keys and database; nothing is released yet."""
    root, source = resolve_data_dir(data_dir), resolve_kek(kek_file, kek, kms_endpoint)
    Home.check_new(root)
    identity = Identity(network, name, url)
    key = source.create(root, identity, os.urandom) if create_kek else source.load(root, identity)
    home = Home.create(root, identity, key)
    Store.initialise(home, clock=now).close()
    say(f"The broker of {name} is in {root}. Consent is paused.")
    say(source.advice(root))
    say(f"Back it up with mcbn-broker backup; leave {root / 'epochs'} out of any other copy, which would outlive it.")
    say_next(make_card(name))
