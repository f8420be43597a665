"""`mcbn-broker audit`: what this broker did, in a chain of hashes."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from mcbn_broker.audit.chain import AuditEntry
from mcbn_broker.ceremony.files import PUBLIC, read_file, write_new
from mcbn_broker.cli.documents import naming
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.opening import open_home
from mcbn_broker.cli.options import DataDir, Force, Kek, KekFile, KmsEndpoint, Out, Output, OutputFormat
from mcbn_broker.cli.stores import open_keyless_store, open_store
from mcbn_broker.cli.text import emit_json, say, say_next, show_rows
from mcbn_broker.moments import moment
from mcbn_protocol import limits
from mcbn_protocol.encoding import canonical

app = typer.Typer(help="What this broker did, in a chain of hashes.", no_args_is_help=True)
_SHOWN_APART = frozenset({"sequence", "time", "kind", "previous"})


@app.command(epilog=examples("mcbn-broker audit tail -n 5", "mcbn-broker audit tail --output json"))
def tail(
    *,
    count: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many records.")] = 20,
    output: Output = OutputFormat.TABLE,
    data_dir: DataDir = None,
) -> None:
    """Show the newest records, oldest first."""
    with open_keyless_store(data_dir) as store:
        entries = store.audit_tail(count)
    if output is OutputFormat.JSON:
        records = [{"sequence": one.sequence, "hash": one.hash.hex(), "record": one.record} for one in entries]
        emit_json({"records": records})
    else:
        show_rows("Audit", ("record", "time", "kind", "details"), [_row(one) for one in entries])


def _row(entry: AuditEntry) -> tuple[str, str, str, str]:
    record = entry.record
    time = record.get("time")
    details = {name: value for name, value in record.items() if name not in _SHOWN_APART}
    return (
        str(entry.sequence),
        moment(time) if isinstance(time, int) else "?",
        str(record.get("kind")),
        canonical(details).decode(),
    )


@app.command(epilog=examples("mcbn-broker audit verify --head head-of-last-month.json"))
def verify(
    *,
    head: Annotated[
        Path | None,
        typer.Option(help="A release or audit head that this broker signed earlier: the chain must still contain it."),
    ] = None,
    output: Output = OutputFormat.TABLE,
    data_dir: DataDir = None,
) -> None:
    """Verify the whole chain. Exit code 5 and the first bad record if it was altered.

    A chain that was cut off at its end still verifies by itself; only a head kept elsewhere (--head) shows it.
    """
    kept = None if head is None else read_file(head, limit=limits.RESPONSE_BYTES)
    with open_keyless_store(data_dir) as store, nullcontext() if head is None else naming(head):
        found = store.verify_audit(kept)
    if output is OutputFormat.JSON:
        emit_json({"sequence": found.sequence, "hash": found.hash.hex()})
        return
    against = "" if head is None else f", and the head in {head} is part of it"
    typer.echo(f"The audit verifies up to record {found.sequence}{against}. Head: {found.hash.hex()}")


@app.command(epilog=examples("mcbn-broker audit head --out head.json"))
def head(
    *,
    out: Out,
    force: Force = False,
    data_dir: DataDir = None,
    kek_file: KekFile = None,
    kek: Kek = None,
    kms_endpoint: KmsEndpoint = None,
) -> None:
    """Write the chain's signed head. Keep it where this broker cannot change it."""
    with open_store(open_home(data_dir, kek_file, kek, kms_endpoint)) as store:
        signed = store.audit_head().sign(store.home.release_key)
    write_new(out, signed.to_bytes(), mode=PUBLIC, force=force)
    say(f"The signed audit head is {out}.")
    say_next(f"give it to another participant to keep; later: mcbn-broker audit verify --head {out}")
