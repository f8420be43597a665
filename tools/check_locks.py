"""Fail when a lock file is older than pyproject.toml or was edited by hand. Offline, and rewrites nothing."""

import sys

from inputs import RECORD, record_lines


def stale_locks(recorded: list[str], expected: list[str]) -> list[str]:
    """Return one sentence for each lock whose recorded digests are not the ones of today."""
    known = {line.rpartition(" ")[2]: line.split() for line in recorded}
    problems = []
    for line in expected:
        inputs, lock, name = line.split()
        recorded_inputs, recorded_lock, _ = known.get(name, ("", "", name))
        if recorded_inputs != inputs:
            problems.append(f"requirements/{name}: pyproject.toml's dependencies have changed since it was made")
        elif recorded_lock != lock:
            problems.append(f"requirements/{name}: its text has changed since it was made")
    return problems


def main() -> int:
    """Print what is stale and return 1, or print nothing bad and return 0."""
    recorded = RECORD.read_text(encoding="ascii").splitlines() if RECORD.exists() else []
    problems = stale_locks(recorded, list(record_lines()))
    for problem in problems:
        print(f"{problem}. Run `make lock` and commit the result.", file=sys.stderr)
    if not problems:
        print("The lock files are those of pyproject.toml.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
