"""What came of each act, as the summary table or as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Outcome:
    """One act.

    Attributes:
        act: Its stable name.
        expected: What was to happen.
        happened: What did happen.
        passed: Whether these agree.
        seconds: How long it took.
        facts: What was seen, for programs.
    """

    act: str
    expected: str
    happened: str
    passed: bool
    seconds: float
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(
            {
                "act": self.act,
                "expected": self.expected,
                "happened": self.happened,
                "passed": self.passed,
                "seconds": round(self.seconds, 1),
                "facts": dict(self.facts),
            },
            ensure_ascii=False,
        )


def print_summary(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print the table."""
    table = Table(title="Summary", title_justify="left")
    for heading in ("act", "expected", "happened", "verdict"):
        table.add_column(heading, overflow="fold")
    for one in outcomes:
        verdict = "[green]as expected[/green]" if one.passed else "[bold red]NOT AS EXPECTED[/bold red]"
        table.add_row(one.act, one.expected, one.happened, verdict)
    console.print()
    console.print(table)
