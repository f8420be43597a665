"""A rehearsal: gathers from all brokers, checks every share, keeps none, and shows what came of it."""

import json
from collections.abc import Iterable
from typing import Any

from mcbn_workload.brokers.outcomes import Row
from mcbn_workload.brokers.quorum import Gathering

_HEADINGS = ("BROKER", "OUTCOME", "MS", "ATTEMPTS", "DETAIL")


def as_table(gathering: Gathering) -> str:
    """Return a plain text table, one line for each broker, and a line that sums it up."""
    lines = [_HEADINGS] + [
        (row.participant, row.outcome, str(round(row.seconds * 1000)), str(row.attempts), row.text)
        for row in gathering.rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS) - 1)]
    table = ["  ".join([*map(str.ljust, line, widths), line[-1]]) for line in lines]
    verdict = "complete" if is_complete(gathering) else "INCOMPLETE"
    summary = (
        f"epoch {gathering.agreed.manifest.epoch}, manifest {gathering.agreed.hash.hex()}: {verdict}, "
        f"{len(gathering.released)} of {gathering.threshold} needed shares"
    )
    return "\n".join([*table, summary])


def as_json(gathering: Gathering) -> str:
    """Return the same as one JSON object."""
    value: dict[str, Any] = {
        "complete": is_complete(gathering),
        "epoch": gathering.agreed.manifest.epoch,
        "manifest_hash": gathering.agreed.hash.hex(),
        "threshold": gathering.threshold,
        "brokers": as_rows(gathering.rows),
    }
    return json.dumps(value, indent=2)


def as_rows(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the rows as JSON objects."""
    return [
        {
            "participant": row.participant,
            "outcome": row.outcome,
            "code": row.code,
            "milliseconds": round(row.seconds * 1000),
            "attempts": row.attempts,
            "detail": row.text,
        }
        for row in rows
    ]


def is_complete(gathering: Gathering) -> bool:
    """Whether enough shares were released."""
    return len(gathering.released) >= gathering.threshold
