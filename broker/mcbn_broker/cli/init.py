"""`mcbn-broker init`: makes a participant's broker."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.opening import now
from mcbn_broker.cli.options import DataDir, KekFile
from mcbn_broker.cli.paths import resolve_data_dir, resolve_kek_file
from mcbn_broker.cli.text import say, say_next
from mcbn_broker.errors import UsageError
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.kek import KeyEncryptionKey, load_kek
from mcbn_broker.keystore.kek import create_kek as create_kek_file
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


def _create(path: Path, root: Path) -> KeyEncryptionKey:
    if path.exists():
        raise UsageError(f"{path} exists: leave out --create-kek to use it, or name a new file with --kek-file")
    return create_kek_file(path, root, os.urandom)


@app.command(
    epilog=examples(
        "mcbn-broker init --network demo --name alice --url https://broker.alice.example \\",
        "    --create-kek --kek-file ~/alice.kek",
    )
)
def init(
    *,
    network: Annotated[str, typer.Option(help="The network's name, the same at every participant.", callback=_name)],
    name: Annotated[str, typer.Option(help="This participant's name in it.", callback=_name)],
    url: Annotated[str, typer.Option(help="Where workloads will reach this broker.", callback=_url)],
    create_kek: Annotated[
        bool, typer.Option("--create-kek", help="Make the key-encryption key in --kek-file, mode 0600.")
    ] = False,
    kek_file: KekFile = None,
    data_dir: DataDir = None,
) -> None:
    """Make this participant's broker. A folder, its keys and database; nothing is released yet."""
    root, kek_path = resolve_data_dir(data_dir), resolve_kek_file(kek_file)
    Home.check_new(root)
    kek = _create(kek_path, root) if create_kek else load_kek(kek_path, root)
    home = Home.create(root, Identity(network, name, url), kek)
    Store.initialise(home, clock=now).close()
    say(f"The broker of {name} is in {root}. Consent is paused.")
    say(f"Keep {kek_path} apart from backups of {root}: together they are the broker's secrets.")
    say(f"Leave {root / 'epochs'} out of every backup: a copy of it would outlive the shares that are destroyed there.")
    say_next(
        f"mcbn-broker consent-key new --out {name}.consent-key.json; then "
        f"mcbn-broker card --consent-key {name}.consent-key.json --out {name}.participant.json"
    )
