"""`mcbn-broker consent-key`: the key with which a participant signs manifests."""

import os

import typer

from mcbn_broker.ceremony.consent_keys import ConsentKeyFile
from mcbn_broker.ceremony.signing_session import create_key_files, journal_path
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.options import Out, PassphraseFile
from mcbn_broker.cli.paths import check_outside
from mcbn_broker.cli.prompts import read_passphrase
from mcbn_broker.cli.text import say, say_next

app = typer.Typer(help="The key that signs manifests. It stays off the broker.")


@app.callback()
def _group() -> None:
    """A callback keeps the noun: with one command only, typer would drop it."""


@app.command(epilog=examples("mcbn-broker consent-key new --out alice.consent-key.json"))
def new(*, out: Out, passphrase_file: PassphraseFile = None) -> None:
    """Make a consent key. A passphrase of at least 12 characters protects it.

    Beside it goes the journal of what it has signed: keep the two files together, on a machine that is not the broker,
    and back both up.
    """
    check_outside(out, "the consent key says what its owner agreed to, and no broker may hold it")
    key = ConsentKeyFile.make(read_passphrase(passphrase_file, new=True), random=os.urandom)
    create_key_files(out, key)
    say(f"The consent key is {out}, its signing journal {journal_path(out)}.")
    say_next(f"mcbn-broker card --consent-key {out} --out NAME.participant.json")
