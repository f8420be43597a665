"""`mcbn-broker manifest template` and `draft`: from the terms to the file that everybody signs."""

from pathlib import Path
from typing import Annotated

import typer

from mcbn_broker.ceremony.drafting import draft_manifest
from mcbn_broker.ceremony.files import PUBLIC, write_new
from mcbn_broker.ceremony.template import terms_template
from mcbn_broker.cli.documents import read_participants, read_predecessor, read_roster, read_terms
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.manifest.terms_view import terms_warnings
from mcbn_broker.cli.options import Force, Out, RosterPath
from mcbn_broker.cli.text import say, say_next, warn
from mcbn_broker.moments import now

app = typer.Typer()


@app.command(epilog=examples("mcbn-broker manifest template > terms.toml"))
def template(
    *,
    simulated: Annotated[
        str | None, typer.Option(metavar="ISSUER", help="Trust this simulated issuer's URL instead: protects nothing.")
    ] = None,
) -> None:
    """Print a commented terms file to fill in."""
    typer.echo(terms_template(simulated), nl=False)


@app.command(
    epilog=examples(
        "mcbn-broker manifest draft --roster roster.json --terms terms.toml --cards *.participant.json \\",
        "    --commitments *.commitment.json --out manifest.json",
        "mcbn-broker manifest draft --previous bundle-1.json ... --out manifest-2.json",
    )
)
def draft(
    *,
    files: Annotated[list[Path] | None, typer.Argument(metavar="CARD", help="More cards of either kind.")] = None,
    cards: Annotated[
        list[Path] | None, typer.Option("--cards", metavar="CARD", help="Every participant's card.")
    ] = None,
    commitments: Annotated[
        list[Path] | None,
        typer.Option("--commitments", metavar="CARD", help="Every participant's commitment card for this epoch."),
    ] = None,
    roster: RosterPath,
    terms: Annotated[Path, typer.Option(help="The terms file, from `manifest template`, filled in.")],
    previous: Annotated[
        Path | None,
        typer.Option(help="The bundle of the epoch before; or its draft, if some signed it and all gave it up."),
    ] = None,
    out: Out,
    force: Force = False,
) -> None:
    """Make the draft that everybody signs. One participant joins roster, terms and everybody's cards.

    Everybody signs it with `manifest sign --commitment NAME.commitment.json`, which compares it with the own card.
    What a card is, its file says: --cards and --commitments may be followed by any number of files.
    """
    agreed = read_roster(roster)
    participants, committed = read_participants([*(cards or ()), *(commitments or ()), *(files or ())], agreed)
    before = None if previous is None else read_predecessor(previous, agreed)
    if before is not None and not before.agreed:
        warn(
            f"{previous} is a draft: right only if epoch {before.epoch} was never signed by all, and then this one "
            "opens the next one in its place. If it was, give its bundle."
        )
    made = draft_manifest(
        agreed, read_terms(terms), cards=participants, commitments=committed, previous=before, now=now()
    )
    write_new(out, made.payload_bytes, mode=PUBLIC, force=force)
    for text in terms_warnings(made.manifest):
        warn(text)
    say(f"The draft of epoch {made.manifest.epoch} is {out}. Manifest hash: {made.hash.hex()}")
    say_next(
        f"send {out} to every participant; each one checks and signs it: mcbn-broker manifest sign {out} "
        f"--roster {roster} --consent-key NAME.consent-key.json --commitment NAME.commitment.json "
        "--out NAME.signature.json"
    )
