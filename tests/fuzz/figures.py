"""Figures of fuzzing: a table for a reader, and a JSON file to which each run adds its own."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fuzz.sessions import Outcome

_HEADINGS = ("target", "executions", "exec/s", "edges", "features", "inputs", "crashes")


class Figures:
    """The sums of all runs that named one file; without a file, nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def add(self, outcome: Outcome) -> None:
        """Add executions, seconds and crashes to what the file says; coverage is the most that was reached."""
        if self._path is None:
            return
        targets = json.loads(self._path.read_bytes())["targets"] if self._path.exists() else {}
        targets[outcome.name] = _sum(targets.get(outcome.name, {}), outcome)
        totals = {name: sum(one[name] for one in targets.values()) for name in ("executions", "seconds", "crashes")}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"totals": totals, "targets": targets}, indent=2, sort_keys=True)
        self._path.write_text(text + "\n", encoding="utf-8")


def _sum(before: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    return {
        "executions": before.get("executions", 0) + outcome.executions,
        "seconds": round(before.get("seconds", 0) + outcome.seconds),
        "edges": max(before.get("edges", 0), outcome.edges),
        "features": max(before.get("features", 0), outcome.features),
        "inputs": outcome.corpus,
        "crashes": before.get("crashes", 0) + max(len(outcome.crashes), int(outcome.broken)),
    }


def table(outcomes: Sequence[Outcome]) -> str:
    rows = [_HEADINGS, *(_row(one) for one in outcomes), _total(outcomes)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width)
                  for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )  # fmt: skip


def _row(one: Outcome) -> tuple[str, ...]:
    numbers = (one.executions, round(one.per_second), one.edges, one.features, one.corpus, len(one.crashes))
    return (one.name, *map(str, numbers))


def _total(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    executions, crashes = sum(one.executions for one in outcomes), sum(len(one.crashes) for one in outcomes)
    return (f"{sum(one.seconds for one in outcomes):.0f} s in all", str(executions), "", "", "", "", str(crashes))
