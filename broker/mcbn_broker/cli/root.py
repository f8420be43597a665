"""Puts the nouns together into one command line: which module has which of them."""

from typing import Annotated, Final

import typer

from mcbn_broker import __version__
from mcbn_broker.cli.lazy import lazy_group
from mcbn_broker.errors import EXIT_CODES

PROGRAM: Final = "mcbn-broker"
_EXIT_CODES: Final = ", ".join(f"{one.number} {name.replace('_', ' ')}" for name, one in EXIT_CODES.items())

_MODULES: Final = {
    "init": "mcbn_broker.cli.init",
    "consent-key": "mcbn_broker.cli.consent_key",
    "card": "mcbn_broker.cli.card",
    "roster": "mcbn_broker.cli.roster",
    "share": "mcbn_broker.cli.share",
    "manifest": "mcbn_broker.cli.manifest",
    "consent": "mcbn_broker.cli.consent",
    "policy": "mcbn_broker.cli.policy",
    "audit": "mcbn_broker.cli.audit",
    "backup": "mcbn_broker.cli.backup",
    "restore": "mcbn_broker.cli.backup",
    "status": "mcbn_broker.cli.status",
    "serve": "mcbn_broker.cli.serve",
}

app = typer.Typer(
    cls=lazy_group(_MODULES),
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
