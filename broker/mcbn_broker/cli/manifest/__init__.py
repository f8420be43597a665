"""`mcbn-broker manifest`: the agreement of one epoch, from its terms to its acceptance."""

import typer

from mcbn_broker.cli.manifest import accepting, drafting, showing, signing

app = typer.Typer(help="The agreement of one epoch: terms, draft, signatures, bundle.", no_args_is_help=True)
for part in (drafting, showing, signing, accepting):
    app.add_typer(part.app)
