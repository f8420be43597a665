"""`mcbn-broker manifest`: the agreement of one epoch, from its terms to its acceptance."""

from typing import Final

import typer

from mcbn_broker.cli.lazy import lazy_group

_MODULES: Final = {
    "template": "mcbn_broker.cli.manifest.drafting",
    "draft": "mcbn_broker.cli.manifest.drafting",
    "show": "mcbn_broker.cli.manifest.showing",
    "sign": "mcbn_broker.cli.manifest.signing",
    "bundle": "mcbn_broker.cli.manifest.bundling",
    "accept": "mcbn_broker.cli.manifest.accepting",
}

app = typer.Typer(
    cls=lazy_group(_MODULES),
    help="The agreement of one epoch: terms, draft, signatures, bundle.",
    no_args_is_help=True,
)
