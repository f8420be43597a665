"""Shows reports: tables for people, one JSON document for programs."""

import json
from typing import Any

from bench.harness import Goal, Report, Series
from rich.console import Console
from rich.table import Table

_MIB = 1024 * 1024
_STYLES = {"met": "green", "missed": "bold red", "no verdict": "yellow"}


def show(report: Report, console: Console) -> None:
    """Print one report."""
    console.rule(report.title)
    console.print(_figures(report))
    if report.goals:
        console.print(_goals(report.goals))
    for note in report.notes:
        console.print(f"- {note}", markup=False, highlight=False, soft_wrap=True)
    if report.profile:
        console.print(report.profile, markup=False, highlight=False, soft_wrap=True)


def _figures(report: Report) -> Table:
    table = Table("variant", "per operation", "ratio", "p50", "p99", "memory", "spread")
    for column in table.columns[1:]:
        column.justify = "right"
    for one in report.series:
        table.add_row(
            one.name,
            f"{one.median:.4g} {one.unit}",
            "1" if one is report.yardstick else f"{one.ratio(report.yardstick):.2f}",
            *(_milliseconds(one.latency(percent)) for percent in (50, 99)),
            "" if one.memory is None else f"{one.memory / _MIB:.1f} MiB",
            f"{one.spread:.0%}",
        )
    return table


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.1f} ms"


def _goals(goals: list[Goal]) -> Table:
    table = Table("goal", "measured", "limit", "verdict")
    for goal in goals:
        sign = ">=" if goal.at_least else "<="
        verdict = f"[{_STYLES[goal.verdict]}]{goal.verdict}[/]"
        table.add_row(
            goal.text,
            f"{goal.value:.2f}",
            f"{sign} {goal.limit:g}",
            f"{verdict}: {goal.doubt}" if goal.doubt else verdict,
        )
    return table


def as_json(reports: list[Report]) -> str:
    """Return all reports as one JSON document; times in seconds, memory in bytes."""
    return json.dumps([_report(one) for one in reports], indent=2)


def _report(report: Report) -> dict[str, Any]:
    return {
        "title": report.title,
        "yardstick": report.yardstick.name,
        "variants": [_series(one, report.yardstick) for one in report.series],
        "goals": [
            {
                "text": goal.text,
                "value": goal.value,
                "limit": goal.limit,
                "at_least": goal.at_least,
                "verdict": goal.verdict,
                "doubt": goal.doubt or None,
            }
            for goal in report.goals
        ],
        "notes": report.notes,
        "profile": report.profile or None,
    }


def _series(series: Series, yardstick: Series) -> dict[str, Any]:
    return {
        "name": series.name,
        "unit": series.unit,
        "median": series.median,
        "values": series.values,
        "ratio": series.ratio(yardstick),
        "spread": series.spread,
        "p50": series.latency(50),
        "p99": series.latency(99),
        "memory": series.memory,
    }
