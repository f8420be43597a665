"""`mcbn-broker manifest show`: a draft or a bundle, with all of its terms."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.ceremony.files import read_file
from mcbn_broker.cli.documents import naming, read_roster
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.manifest.terms_view import show_terms, terms_warnings
from mcbn_broker.cli.options import Output, OutputFormat
from mcbn_broker.cli.text import emit_json, say
from mcbn_protocol import limits
from mcbn_protocol.encoding import parse_canonical
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.roster import Roster
from mcbn_protocol.signatures import Envelope

app = typer.Typer()


@app.command(
    epilog=examples(
        "mcbn-broker manifest show manifest.json",
        "mcbn-broker manifest show bundle.json --roster roster.json --output json",
    )
)
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A draft or a bundle.")],
    *,
    roster: Annotated[
        Path | None, typer.Option("--roster", help="Verify a bundle's signatures, or a draft's roster, against this.")
    ] = None,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show a draft or a bundle. Every term of it; without --roster nothing is verified."""
    agreed = None if roster is None else read_roster(roster)
    with naming(file):
        draft, signers = _read(read_file(file, limit=limits.MANIFEST_BYTES), agreed)
    if output is OutputFormat.JSON:
        emit_json(_as_json(draft, signers, verified=roster is not None))
        return
    show_terms(draft.manifest, draft.hash, talk=False)
    verified = "verified" if roster is not None else "NOT verified: give --roster"
    say(f"Signed by: {', '.join(signers)} ({verified})" if signers else "Signed by: nobody yet")


def _read(data: bytes, roster: Roster | None) -> tuple[Draft, list[str]]:
    """Return the terms and who signed them."""
    value = parse_canonical(data, limit=limits.MANIFEST_BYTES)
    if isinstance(value, dict) and "signatures" in value:
        envelope = Envelope.parse(data, limit=limits.MANIFEST_BYTES)
        if roster is not None:
            AgreedManifest.parse(data, roster)
        return Draft.parse(envelope.payload_bytes), [one.participant for one in envelope.signatures]
    draft = Draft.parse(data)
    if roster is not None:
        draft.manifest.check_roster(roster)
    return draft, []


def _as_json(draft: Draft, signers: list[str], *, verified: bool) -> dict[str, Any]:
    return {
        "manifest_hash": draft.hash.hex(),
        "epoch": draft.manifest.epoch,
        "simulated": draft.manifest.simulated,
        "insecure_terms": list(draft.manifest.insecure_terms),
        "warnings": terms_warnings(draft.manifest),
        "signed_by": signers,
        "verified": verified,
        "manifest": draft.payload,
    }
