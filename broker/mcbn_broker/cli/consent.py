"""`mcbn-broker consent`: the participant's present decision."""

from typing import Annotated, Any

import typer

from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.options import DataDir, Output, OutputFormat
from mcbn_broker.cli.stores import open_keyless_store
from mcbn_broker.cli.text import emit_json, say_next, show_facts
from mcbn_broker.errors import NotReadyError
from mcbn_broker.moments import moment
from mcbn_broker.release.consent import Consent

app = typer.Typer(help="This participant's present decision. It binds a running `serve` at once.", no_args_is_help=True)
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; it goes into the audit.")]


@app.command(epilog=examples("mcbn-broker consent show"))
def show(*, output: Output = OutputFormat.TABLE, data_dir: DataDir = None) -> None:
    """Show the decision."""
    with open_keyless_store(data_dir) as store:
        consent = store.consent()
    if output is OutputFormat.JSON:
        emit_json(consent_json(consent))
    else:
        show_facts("Consent", consent_facts(consent))


@app.command(epilog=examples('mcbn-broker consent allow --reason "epoch 3 is what we agreed on"'))
def allow(*, reason: Reason = "", output: Output = OutputFormat.TABLE, data_dir: DataDir = None) -> None:
    """Let the broker release. To workloads that pass every check, under the accepted manifest."""
    with open_keyless_store(data_dir) as store:
        if store.opened.new_incarnation is not None:
            raise NotReadyError(
                "nothing was allowed: the database was found changed just now, and consent was paused for it (see "
                "above); look at mcbn-broker status, and allow again if you agree"
            )
        _acknowledge(store.allow(reason), output)
        if not store.manifests():
            say_next("no manifest is accepted yet, so nothing is released: mcbn-broker manifest accept bundle.json")


@app.command(epilog=examples('mcbn-broker consent pause --reason "incident 17"'))
def pause(*, reason: Reason = "", output: Output = OutputFormat.TABLE, data_dir: DataDir = None) -> None:
    """Stop all releases. When this returns, no later release is possible; open channels end with their leases."""
    with open_keyless_store(data_dir) as store:
        _acknowledge(store.pause(reason), output)


def _acknowledge(consent: Consent, output: OutputFormat) -> None:
    """Say that the decision is in force: it is on the disk, together with its audit record."""
    if output is OutputFormat.JSON:
        emit_json(consent_json(consent))
    else:
        typer.echo(f"Consent is {consent.state.value} as of audit record {consent.sequence}.")


def consent_json(consent: Consent) -> dict[str, Any]:
    """Return what `--output json` says of a decision."""
    return {
        "state": consent.state.value,
        "reason": consent.reason,
        "since": consent.since,
        "audit_sequence": consent.sequence,
    }


def consent_facts(consent: Consent) -> list[tuple[str, str]]:
    """Return what a table says of a decision."""
    return [
        ("state", consent.state.value.upper()),
        ("since", f"{moment(consent.since)}, audit record {consent.sequence}"),
        ("reason", consent.reason or "none given"),
    ]
