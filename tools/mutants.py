"""Mutation testing of what judges a token and seals a share: every small fault must make a test fail.

Usage: mutants.py [--jobs N] [--only MODULE] [--list-survivors]

Outcomes are kept in build/mutants.json: an interrupted run goes on where it was, and after a change only the changed
modules are judged again (all of them after a change of tests). A complete run writes docs/reference/mutants.md.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Final

from mutation.children import BrokenRunError, Outcome
from mutation.page import page
from mutation.plan import Plan, modules_in
from mutation.results import Results
from mutation.run import all_mutants, run
from mutation.survivors import problems, read_survivors, score

ROOT: Final = Path(__file__).resolve().parent.parent
SURVIVORS: Final = ROOT / "tools" / "mutants_survivors.toml"
PAGE: Final = ROOT / "docs" / "reference" / "mutants.md"
FLOOR: Final = 95.0
PLAN: Final = Plan(
    root=ROOT,
    modules=modules_in(
        ROOT,
        (
            ("broker", "mcbn_broker/appraisal"),
            ("broker", "mcbn_broker/attestation"),
            ("protocol", "mcbn_protocol/binding.py"),
            ("protocol", "mcbn_protocol/sealing.py"),
        ),
    ),
    tests=(
        "tests/unit/broker/appraisal",
        "tests/unit/broker/attestation",
        "tests/unit/broker/cli/test_cli_policy_explain.py",
        "tests/unit/protocol",
    ),
    ours=frozenset({"mcbn_broker", "mcbn_protocol", "mcbn_simulator", "mcbn_workload"}),
)


def main(arguments: list[str]) -> int:
    """Judge every mutant; return 0 if the survivors are exactly the listed ones and the score is reached."""
    parser = argparse.ArgumentParser(prog="mutants", description="Put small faults into modules; tests must notice.")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="children at a time")
    parser.add_argument("--only", metavar="MODULE", default="", help="modules whose path contains this")
    parser.add_argument("--list-survivors", action="store_true", help="print what survived so far; judge nothing")
    chosen = parser.parse_args(arguments)
    modules = [module for module in PLAN.modules if chosen.only in module]
    mutants = [mutant for mutant in all_mutants(PLAN) if mutant.module in modules]
    results = Results(ROOT / "build" / "mutants.json", PLAN)
    if chosen.list_survivors:
        for mutant in mutants:
            if results.get(mutant) is Outcome.SURVIVED:
                print(
                    f"{mutant.module}:{mutant.lines[0]}, {mutant.function}\n    - {mutant.before}\n    + {mutant.after}"
                )
        return 0
    os.nice(10)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        outcomes = run(PLAN, mutants, results, jobs=chosen.jobs)
    except BrokenRunError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 1
    survivors = read_survivors(SURVIVORS)
    found = problems(outcomes, survivors, modules, FLOOR)
    for problem in found:
        print(f"mutants: {problem}")
    if not found and not chosen.only:
        PAGE.write_text(page(outcomes, modules, survivors, FLOOR), encoding="utf-8")
    print(f"mutants: {len(outcomes)} mutants, {score(outcomes.values()):.1f}% killed")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
