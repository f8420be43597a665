"""Fail when a package's statements or branches are covered less than a floor; reads `coverage json`.

Usage: check_coverage.py REPORT.json PERCENT FOLDER_OR_FILE...
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any


def totals(report: Mapping[str, Any], folder: str) -> tuple[int, int, int, int]:
    """Return covered statements, statements, covered branches and branches of the files below one folder."""
    summaries = [
        entry["summary"] for name, entry in report["files"].items() if PurePath(name).is_relative_to(PurePath(folder))
    ]
    return (
        sum(summary["covered_lines"] for summary in summaries),
        sum(summary["num_statements"] for summary in summaries),
        sum(summary["covered_branches"] for summary in summaries),
        sum(summary["num_branches"] for summary in summaries),
    )


def judge(report: Mapping[str, Any], folder: str, floor: float) -> tuple[bool, str]:
    """Say whether one folder reaches the floor in both measures, and the sentence to print."""
    covered_lines, lines, covered_branches, branches = totals(report, folder)
    if not lines:
        return False, f"{folder}: not in the coverage report; is the path right?"
    of_lines, of_branches = 100 * covered_lines / lines, 100 * covered_branches / branches if branches else 100.0
    good = min(of_lines, of_branches) >= floor
    verdict = "" if good else f", below the floor of {floor:g}%"
    return good, f"{folder}: {of_branches:.1f}% of branches, {of_lines:.1f}% of statements{verdict}"


def main(arguments: list[str]) -> int:
    """Print a line for each folder; return 0 if all of them, and at least one, reach the floor."""
    path, floor, *folders = arguments
    report = json.loads(Path(path).read_text(encoding="utf-8"))
    if not report["meta"]["branch_coverage"]:
        print("coverage: measured without branches; run it with --cov-branch")
        return 1
    verdicts = [judge(report, folder, float(floor)) for folder in folders]
    for _, sentence in verdicts:
        print(f"coverage: {sentence}")
    return 0 if verdicts and all(good for good, _ in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
