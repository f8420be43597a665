"""What the lock files and the virtual environment are made from, as SHA-256 digests.

`make lock` records the digests beside the locks and `make check` compares them, so that freshness needs no network and
does not depend on what is newest in a package index.
"""

import hashlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
RECORD = REQUIREMENTS / "inputs.sha256"

EXTRAS = ("dev", "broker", "simulator", "workload")
"""One lock file for each; `dev` first, because the others start from its pins."""

COMPILE_OPTIONS = (
    "--universal",
    "--generate-hashes",
    "--no-header",
    "--no-emit-index-url",
    # Older pips look for `coverage[toml]` apart from a pinned `coverage`, and refuse the newer release that they find.
    "--no-strip-extras",
    "--python-version",
    "3.11",
)
"""What `uv pip compile` is given for every lock."""


def read_pyproject(root: Path = ROOT) -> dict[str, dict[str, object]]:
    """Return pyproject.toml, parsed."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def lock_path(extra: str) -> Path:
    """Return where the lock of one extra stands."""
    return REQUIREMENTS / f"{extra}.txt"


def lock_input_digest(extra: str) -> str:
    """Return the SHA-256 of all that decides one lock: the dependencies it resolves and the options it is made with."""
    project = read_pyproject()["project"]
    options = [*COMPILE_OPTIONS, "--extra", extra]
    # An extra may name other extras ("mcbn[broker,...]"), so all of them count for each lock.
    decisive = {key: project[key] for key in ("requires-python", "dependencies", "optional-dependencies")}
    return _digest_of_json({"options": options, "project": decisive})


def environment_digest(root: Path, python_version: str) -> str:
    """Return the SHA-256 of all that decides `.venv`: the dev lock, how the project installs, the place, the Python."""
    pyproject = read_pyproject(root)
    tools = pyproject.get("tool", {})
    return _digest_of_json(
        {
            "lock": file_digest(root / "requirements" / "dev.txt"),
            "build": [pyproject["build-system"], pyproject["project"], tools.get("hatch")],
            "root": str(root),  # scripts in an environment name its path, so a copied clone needs its own
            "python": python_version,
        }
    )


def record_lines() -> Iterator[str]:
    """Yield the lines of the record as they should be: input digest, lock digest, lock name."""
    for extra in EXTRAS:
        yield f"{lock_input_digest(extra)} {file_digest(lock_path(extra))} {extra}.txt"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest_of_json(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
