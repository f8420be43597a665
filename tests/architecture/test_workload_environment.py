"""The workload runs from its own lock and two folders alone, as in its image."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SHARES = {  # published by the system that this one grew from
    "alice": "2c6f63f8c0f53a565db041b91c0a95add8913fc102670589db3982228dbfed90",
    "bob": "b15244faf36e5e4b178d3891701d245f2e45e881d913b6c35c0ea0ac14224cc2",
    "carol": "3e2078d5cd04beabfa4a7a1486bc626d679184df2e0a2b9942d913d4b835516c",
}
SHA256_CONCAT = "6d1bbd1e6235c9d9ec8cdbdf9b32d4d08304a7f305f7c6c67775130d914f4dc4"
ABSENT = [
    *("fastapi", "starlette", "uvicorn", "sqlalchemy", "pydantic", "typer", "rich", "structlog", "jwt"),
    *("mcbn_broker", "mcbn_simulator"),
]

# One worker makes the environment for all of these tests.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def python(root: Path, tmp_path_factory) -> Path:
    """Make the environment and return its interpreter."""
    environment = tmp_path_factory.mktemp("workload") / "venv"
    interpreter = environment / "bin" / "python"
    run([sys.executable, "-m", "venv", environment])
    install = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*install, "--require-hashes", "--only-binary", ":all:", "-r", root / "requirements" / "workload.txt"])
    (site_packages,) = environment.glob("lib/python*/site-packages")
    for folder in ("protocol/mcbn_protocol", "workload/mcbn_workload"):
        source = root / folder
        shutil.copytree(source, site_packages / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    return interpreter


def run(command) -> subprocess.CompletedProcess[str]:
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result


def test_version(python):
    assert run([python, "-I", "-m", "mcbn_workload", "--version"]).stdout.startswith("mcbn-workload ")


def test_derive_gives_the_published_key(python, tmp_path):
    files = [tmp_path / f"{name}.hex" for name in SHARES]
    for path, share in zip(files, SHARES.values(), strict=True):
        path.write_text(share + "\n", encoding="ascii")
    result = run([python, "-I", "-m", "mcbn_workload", "derive", "--scheme", "sha256-concat", *files])
    assert result.stdout.strip() == SHA256_CONCAT


def test_every_module_of_protocol_and_workload_imports(python):
    program = (
        "import importlib, pkgutil, mcbn_protocol, mcbn_workload\n"
        "for package in (mcbn_protocol, mcbn_workload):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not module.name.endswith('.__main__') and '.mbedtls' not in module.name:\n"
        "            importlib.import_module(module.name); print(module.name)\n"
    )
    imported = run([python, "-I", "-c", program]).stdout.split()
    assert "mcbn_protocol.errors" in imported
    assert any(name.startswith("mcbn_workload.") for name in imported)


def test_the_engine_of_an_extra_says_what_to_install(python):
    program = (
        "import mcbn_workload.channels.errors as errors\n"
        "try:\n    import mcbn_workload.channels.mbedtls\n"
        "except errors.EngineUnavailableError as error:\n    print(error)\n"
    )
    assert "the extra `mbedtls`" in run([python, "-I", "-c", program]).stdout


@pytest.mark.parametrize("name", ABSENT)
def test_neither_broker_nor_its_libraries_are_there(python, name):
    program = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is not None)"
    run([python, "-I", "-c", program, name])
