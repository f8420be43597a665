"""Runs the image builder on a copy of the tree, as an auditor does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mcbn_images.errors import ExitCode

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("deploy", "protocol", "workload", "broker", "simulator", "requirements")
EXAMPLE = "deploy/images/example-roster.json"
Finished = subprocess.CompletedProcess[str]


def mcbn_images(
    tree: Path, *words: str | Path, python: str = sys.executable, umask: int = 0o022, **variables: str
) -> Finished:
    """Run the builder as an auditor does: an interpreter, one folder on PYTHONPATH, nothing installed."""
    return subprocess.run(
        [python, "-m", "mcbn_images", *map(str, words)],
        cwd="/",
        env=os.environ | {"PYTHONPATH": str(tree / "deploy"), "PYTHONDONTWRITEBYTECODE": "1"} | variables,
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
    )


def copy_of_the_tree(target: Path) -> Path:
    """Copy what the images are made of, as a checkout in another place has it."""
    for name in PARTS:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def unavailable(text: str) -> None:
    """Skip for want of a network or a tool, unless whoever runs the tests says that all is there."""
    if os.environ.get("MCBN_REQUIRE_PEERS") == "1":
        pytest.fail(text)
    pytest.skip(text)


def build(tree: Path, out: Path, *words: str | Path, roster: Path | None = None) -> str:
    """Build, by default for the example roster; where a locked input cannot be had any more, lock the copy anew first.

    Returns:
        What the builder said of locked inputs that are superseded, or nothing.
    """
    command = ("build", "--roster", roster or tree / EXAMPLE, "--out", out, *words)
    result = mcbn_images(tree, *command)
    superseded = result.stderr if result.returncode == ExitCode.SUPERSEDED else ""
    if superseded:
        if mcbn_images(tree, "lock").returncode != ExitCode.OK:
            unavailable(f"neither the locked inputs nor newer ones can be had: {superseded}")
        result = mcbn_images(tree, *command)
    assert result.returncode == ExitCode.OK, result.stderr
    return superseded
