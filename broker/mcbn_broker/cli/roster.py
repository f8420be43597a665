"""`mcbn-broker roster`: who the participants are."""

from pathlib import Path
from typing import Annotated

import typer

from mcbn_broker.ceremony.files import PUBLIC, write_new
from mcbn_broker.ceremony.rosters import make_roster
from mcbn_broker.cli.documents import read_card, read_roster
from mcbn_broker.cli.examples import examples
from mcbn_broker.cli.first_steps import adopt_roster
from mcbn_broker.cli.options import Force, Out, Output, OutputFormat
from mcbn_broker.cli.text import emit_json, say, say_next, show_facts, show_rows
from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.participants import ParticipantCard, fingerprint
from mcbn_protocol.roster import Roster

app = typer.Typer(help="Who the participants are. Under which keys, and how many must answer.", no_args_is_help=True)


@app.command(epilog=examples("mcbn-broker roster build *.participant.json --out roster.json"))
def build(
    *,
    cards: Annotated[list[Path], typer.Argument(metavar="CARD", help="The card of every participant.")],
    threshold: Annotated[
        int | None, typer.Option(help="How many must answer. Leave it out: this version combines all shares.")
    ] = None,
    out: Out,
    force: Force = False,
) -> None:
    """Build the roster. The same cards give the same bytes at every participant.

    Compare each fingerprint with its participant over a road that you trust: all later checks rest on this.
    """
    read = [read_card(path) for path in cards]
    roster = make_roster(read, threshold=threshold)
    write_new(out, roster.canonical_bytes, mode=PUBLIC, force=force)
    _show_cards(read)
    say(f"Roster hash: {roster.hash.hex()}, threshold {roster.threshold} of {len(roster.names)}")
    say_next(
        "compare fingerprints and roster hash with the other participants; build the images with this roster; "
        f"then: {adopt_roster('NAME', str(out))}"
    )


def _show_cards(cards: list[ParticipantCard]) -> None:
    rows = [(one.name, one.url, fingerprint(one)) for one in sorted(cards, key=lambda one: one.name)]
    show_rows("Participants", ("name", "broker", "fingerprint of the card"), rows, talk=True)


@app.command(epilog=examples("mcbn-broker roster show roster.json"))
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The roster file.")],
    *,
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show a roster and its hash."""
    roster = read_roster(file)
    if output is OutputFormat.JSON:
        emit_json(_as_json(roster))
        return
    facts = [
        ("network", roster.network),
        ("roster hash", roster.hash.hex()),
        ("threshold", f"{roster.threshold} of {len(roster.participants)}"),
    ]
    show_facts("Roster", facts)
    rows = [(one.name, one.consent_key.hex(), one.release_key.hex()) for one in roster.participants]
    show_rows("Participants", ("name", "consent key", "release key"), rows)


def _as_json(roster: Roster) -> dict[str, object]:
    return {
        "network": roster.network,
        "roster_hash": roster.hash.hex(),
        "threshold": roster.threshold,
        "participants": [
            {
                "name": one.name,
                "share_index": roster.share_index(one.name),
                "consent_key": b64u_encode(one.consent_key),
                "release_key": b64u_encode(one.release_key),
            }
            for one in roster.participants
        ],
    }
