"""Puts the nouns together into one command line."""

from typing import Annotated, Final

import typer

from mcbn_broker import __version__
from mcbn_broker.cli import (
    audit,
    backup,
    card,
    consent,
    consent_key,
    init,
    manifest,
    policy,
    roster,
    serve,
    share,
    status,
)
from mcbn_broker.errors import EXIT_CODES

PROGRAM: Final = "mcbn-broker"
_EXIT_CODES: Final = ", ".join(f"{one.number} {name.replace('_', ' ')}" for name, one in EXIT_CODES.items())

app = typer.Typer(
    name=PROGRAM,
    help="One participant's broker: it holds the participant's share, and releases it only to attested workloads.",
    epilog=f"Exit codes: {_EXIT_CODES}.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


app.add_typer(init.app)
app.add_typer(consent_key.app, name="consent-key")
app.add_typer(card.app)
app.add_typer(roster.app, name="roster")
app.add_typer(share.app, name="share")
app.add_typer(manifest.app, name="manifest")
app.add_typer(consent.app, name="consent")
app.add_typer(policy.app, name="policy")
app.add_typer(audit.app, name="audit")
app.add_typer(backup.app)
app.add_typer(status.app)
app.add_typer(serve.app)
