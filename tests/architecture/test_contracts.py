"""The import contracts cover the whole tree, and they fail when they should."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCES = ("protocol", "broker", "workload", "simulator", "deploy")
PACKAGES = {
    **{f"mcbn_{source}": source for source in SOURCES if source != "deploy"},
    **dict.fromkeys(("mcbn_images", "mcbn_smoke"), "deploy"),
}
"""Each package, and the folder that plays the part of `src/` for it."""


def layers_contract(pyproject, package):
    """Return the one layers contract whose container is the package."""
    contracts = pyproject["tool"]["importlinter"]["contracts"]
    (contract,) = [c for c in contracts if c["type"] == "layers" and c.get("containers") == [package]]
    return contract


def layer_names(contract):
    """Return the bare names in a layers contract."""
    return {re.sub(r"[()\s]", "", name) for layer in contract["layers"] for name in re.split(r"[|:]", layer)}


def test_every_package_of_the_source_folders_is_known(root):
    found = {path.parent.name: source for source in SOURCES for path in (root / source).glob("*/__init__.py")}
    assert found == PACKAGES


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_under_an_exhaustive_contract_and_measured(pyproject, package):
    assert package in pyproject["tool"]["importlinter"]["root_packages"]
    assert layers_contract(pyproject, package)["exhaustive"] is True
    assert package in pyproject["tool"]["coverage"]["run"]["source"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_named_as_a_layer(root, pyproject, package):
    folder = root / PACKAGES[package] / package
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    # A folder of modules without __init__.py would escape import-linter.
    packages = {path.relative_to(folder).parts[0] for path in folder.glob("*/**/*.py")}
    assert modules | packages <= layer_names(layers_contract(pyproject, package))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_modules_is_a_package(root, package):
    folder = root / PACKAGES[package] / package
    bare = [path for path in folder.glob("**/*.py") if not (path.parent / "__init__.py").exists()]
    assert not bare


@pytest.fixture
def copy_of_the_tree(root, tmp_path):
    """Copy the contracts and the sources, without caches, so that a test may spoil them."""
    for source in SOURCES:
        shutil.copytree(root / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "pyproject.toml", tmp_path)
    return tmp_path


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on a copy, whose modules come before the installed ones."""
    path = [str(tree / source) for source in SOURCES]
    program = f"import sys; sys.path[:0] = {path!r}\nfrom importlinter.cli import lint_imports_command as main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache", "--no-logo"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )


def test_contracts_hold(copy_of_the_tree):
    result = lint(copy_of_the_tree)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_a_module_that_no_layer_names_is_refused(copy_of_the_tree, package):
    (copy_of_the_tree / PACKAGES[package] / package / "stray.py").write_text('"""Stray."""\n')
    result = lint(copy_of_the_tree)
    assert result.returncode == 1, result.stderr
    assert f"{package}.stray" in result.stdout


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("workload/mcbn_workload/__init__.py", "mcbn_broker"),
        ("broker/mcbn_broker/__init__.py", "mcbn_workload"),
        ("simulator/mcbn_simulator/__init__.py", "mcbn_workload"),
        ("protocol/mcbn_protocol/errors.py", "mcbn_protocol.roster"),
        ("workload/mcbn_workload/__init__.py", "fastapi"),
        ("deploy/mcbn_images/__init__.py", "mcbn_protocol"),
        ("deploy/mcbn_smoke/acts.py", "mcbn_broker"),
        ("deploy/mcbn_smoke/application.py", "mcbn_protocol"),
        ("simulator/mcbn_simulator/__init__.py", "mcbn_smoke"),
    ],
)
def test_a_forbidden_import_is_refused(copy_of_the_tree, importer, imported):
    with (copy_of_the_tree / importer).open("a", encoding="utf-8") as module:
        module.write(f"\nimport {imported}\n")
    result = lint(copy_of_the_tree)
    assert result.returncode == 1, result.stdout + result.stderr
    assert imported in result.stdout
