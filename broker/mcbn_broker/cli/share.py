"""`mcbn-broker share`: this participant's share of an epoch's key."""

from pathlib import Path
from typing import Annotated

import typer

from mcbn_broker.ceremony.files import PUBLIC, read_file, write_new
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.opening import open_home, open_store
from mcbn_broker.cli.options import DataDir, Force, KekFile, Out
from mcbn_broker.cli.text import say, say_next
from mcbn_protocol import limits

app = typer.Typer(help="This participant's share of an epoch's key.")


@app.callback()
def _group() -> None:
    """A callback keeps the noun: with one command only, typer would drop it."""


@app.command(epilog=examples("mcbn-broker share new --roster roster.json --out alice.commitment.json"))
def new(
    *,
    roster: Annotated[
        Path | None, typer.Option("--roster", help="The roster file. The first one is adopted for good; then optional.")
    ] = None,
    epoch: Annotated[
        int | None,
        typer.Option(min=1, help="Default: the one after the accepted. Another one only where a draft was given up."),
    ] = None,
    out: Out,
    force: Force = False,
    data_dir: DataDir = None,
    kek_file: KekFile = None,
) -> None:
    """Make the next epoch's share. It stays here; the signed commitment card is for the others.

    Run again for the same epoch, it gives the same commitment again.
    """
    with open_store(open_home(data_dir, kek_file)) as store:
        home = store.home
        if roster is not None:
            home.adopt_roster(read_file(roster, limit=limits.ROSTER_BYTES))
        card = store.new_share(epoch)
        signed = card.sign(home.release_key, home.roster())
    write_new(out, signed.to_bytes(), mode=PUBLIC, force=force)
    say(f"{card.participant}'s commitment for epoch {card.epoch} is in {out}: {card.commitment.hex()}")
    say_next(
        f"send {out} to whoever drafts the manifest (mcbn-broker manifest draft), and keep it: "
        f"`manifest sign --commitment {out}` compares the draft with it"
    )
