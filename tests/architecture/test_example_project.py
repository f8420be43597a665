"""The example of an application with tests passes in an environment of its own: our wheel, the locked ones, pytest."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LOCKS = ("broker", "workload", "simulator")
PYTEST = ("iniconfig", "packaging", "pluggy", "pygments", "pytest")

pytestmark = pytest.mark.timeout(600)


def run(command, **words) -> str:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **words)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def pins_of_pytest(root: Path) -> str:
    """Return the lines of the dev lock that pin pytest and what it needs; pip refuses if one is missing."""
    text = (root / "requirements/dev.txt").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)
    return "".join(block for block in blocks if block.split("==")[0] in PYTEST)


@pytest.fixture
def python(root, tmp_path) -> Path:
    """Make the environment and return its interpreter."""
    run([sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path], cwd=root)
    (wheel,) = tmp_path.glob("mcbn-*.whl")
    (tmp_path / "pytest.txt").write_text(pins_of_pytest(root), encoding="utf-8")
    run([sys.executable, "-m", "venv", tmp_path / "venv"])
    interpreter = tmp_path / "venv/bin/python"
    install = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    locks = [root / "requirements" / f"{name}.txt" for name in LOCKS]
    requirements = [word for path in [*locks, tmp_path / "pytest.txt"] for word in ("--requirement", path)]
    run([*install, "--require-hashes", "--only-binary", ":all:", *requirements])
    run([*install, "--no-deps", "--no-index", wheel])
    return interpreter


def test_the_example_passes(python, root, tmp_path):
    project = shutil.copytree(
        root / "deploy/examples/integration_tests", tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__")
    )
    said = run([python, "-I", "-m", "pytest", "-p", "no:cacheprovider"], cwd=project)
    assert re.search(r"\b7 passed\b", said), said
