"""`mcbn-broker share`: this participant's share of an epoch's key."""

from pathlib import Path
from typing import Annotated

import typer

from mcbn_broker.ceremony.files import PUBLIC, write_new
from mcbn_broker.cli.documents import naming, read_roster
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.opening import open_home
from mcbn_broker.cli.options import DataDir, Force, Kek, KekFile, KmsEndpoint, Out
from mcbn_broker.cli.prompts import confirm
from mcbn_broker.cli.stores import open_store
from mcbn_broker.cli.text import say, say_next, show_facts, warn
from mcbn_broker.keystore.home import Home

app = typer.Typer(help="This participant's share of an epoch's key.")


@app.callback()
def _group() -> None:
    """A callback keeps the noun: with one command only, typer would drop it."""


@app.command(epilog=examples("mcbn-broker share new --roster roster.json --out alice.commitment.json"))
def new(
    *,
    roster: Annotated[
        Path | None,
        typer.Option(
            "--roster", help="The roster file. The first one is adopted for good, once you confirm it; then optional."
        ),
    ] = None,
    epoch: Annotated[
        int | None,
        typer.Option(min=1, help="Default: the one after the accepted. Another one only where a draft was given up."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="You did compare the roster hash with the others.")] = False,
    out: Out,
    force: Force = False,
    data_dir: DataDir = None,
    kek_file: KekFile = None,
    kek: Kek = None,
    kms_endpoint: KmsEndpoint = None,
) -> None:
    """Make the next epoch's share. It stays here; the signed commitment card is for the others.

    Run again for the same epoch, it gives the same commitment again.
    """
    with open_store(open_home(data_dir, kek_file, kek, kms_endpoint)) as store:
        home = store.home
        if roster is not None:
            _adopt(home, roster, yes=yes)
        _warn_of_gap(epoch, store.status().next_share_epoch)
        card = store.new_share(epoch)
        signed = card.sign(home.release_key, home.roster())
    write_new(out, signed.to_bytes(), mode=PUBLIC, force=force)
    say(f"{card.participant}'s commitment for epoch {card.epoch} is in {out}: {card.commitment.hex()}")
    say_next(
        f"send {out} to whoever drafts the manifest (mcbn-broker manifest draft), and keep it: "
        f"`manifest sign --commitment {out}` compares the draft with it"
    )


def _adopt(home: Home, path: Path, *, yes: bool) -> None:
    """Adopt a roster; the first time, show it and ask, because there is no way back."""
    roster = read_roster(path)
    if home.adopted_roster() is None:
        facts = [
            ("network", roster.network),
            ("participants", ", ".join(roster.names)),
            ("threshold", f"{roster.threshold} of {len(roster.names)}"),
            ("roster hash", roster.hash.hex()),
        ]
        show_facts("The roster that will be adopted for good", facts, talk=True)
        confirm("Did you compare the roster hash with every participant, and adopt this roster for good?", yes=yes)
    with naming(path):
        home.adopt_roster(roster.canonical_bytes)


def _warn_of_gap(epoch: int | None, following: int) -> None:
    if epoch is not None and epoch > following:
        warn(
            f"epoch {epoch} is beyond the next one, which is {following}. That is right only where a draft of each "
            "epoch between was signed by some and given up by all; otherwise leave out --epoch."
        )
