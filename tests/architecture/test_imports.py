"""Who may import what, beyond the contracts of pyproject.toml: standard modules, declared dependencies, no tests."""

import ast
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PACKAGES = {
    "mcbn_protocol": "protocol",
    "mcbn_broker": "broker",
    "mcbn_workload": "workload",
    "mcbn_simulator": "simulator",
    "mcbn_images": "deploy",
    "mcbn_smoke": "deploy",
}
EXTRAS_OF = {
    "mcbn_protocol": (),
    "mcbn_broker": ("broker", "speedups"),
    "mcbn_workload": ("workload", "mbedtls", "speedups"),
    "mcbn_simulator": ("simulator", "pytest"),
    "mcbn_images": ("images",),
    "mcbn_smoke": ("simulator",),
}
IMPURE = {
    "asyncio", "concurrent", "datetime", "ftplib", "http", "io", "logging", "multiprocessing", "os",
    "pathlib", "random", "secrets", "select", "selectors", "shutil", "signal", "smtplib", "socket",
    "socketserver", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid",
}  # fmt: skip


def imports_of(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (dotted name, line) of each absolute import, however deeply it is nested."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module is not None
            yield node.module, node.lineno


def imports_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (dotted name, "file:line") of each absolute import below a folder."""
    files = sorted(folder.rglob("*.py"))
    assert files, f"no modules below {folder}"
    for path in files:
        for name, line in imports_of(ast.parse(path.read_text(encoding="utf-8"))):
            yield name, f"{path}:{line}"


def distribution_name(requirement: str) -> str:
    """Return the normalised distribution name at the head of a requirement."""
    return canonicalize_name(Requirement(requirement).name)


def test_reader_sees_nested_and_dotted_imports():
    tree = ast.parse("def f():\n    import os.path\n    from . import x\nif f():\n    from time import sleep\n")
    assert sorted(imports_of(tree)) == [("os.path", 2), ("time", 5)]


def test_protocol_has_no_io_clock_randomness_or_concurrency(root):
    found = [
        (name, where)
        for name, where in imports_in(root / "protocol" / "mcbn_protocol")
        if name.partition(".")[0] in IMPURE
    ]
    assert not found


def test_protocol_calls_no_key_generator(root):
    """A key or share is made by the caller, who is accountable for its randomness."""
    calls = [
        f"{path}:{node.lineno}"
        for path in sorted((root / "protocol" / "mcbn_protocol").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"generate", "generate_key", "urandom", "token_bytes"}
    ]
    assert not calls


@pytest.mark.parametrize("package", PACKAGES)
def test_every_imported_distribution_is_declared_for_that_package(root, pyproject, package):
    """What another dependency happens to bring along may go away with it."""
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *(line for extra in EXTRAS_OF[package] for line in extras[extra])]
    declared = {distribution_name(requirement) for requirement in requirements}
    declared |= {"starlette"} if "fastapi" in declared else set()  # FastAPI's own base, documented as part of its API
    providers = packages_distributions()
    undeclared = set()
    for name, where in imports_in(root / PACKAGES[package] / package):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top in PACKAGES:
            continue
        # A namespace such as `google` has several providers, any of which will do.
        if not declared & {canonicalize_name(provider) for provider in providers.get(top, [top])}:
            undeclared.add((name, where))
    assert not undeclared


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_imports_tests_benchmarks_or_tools(root, package):
    imports = imports_in(root / PACKAGES[package] / package)
    assert not [where for name, where in imports if name.partition(".")[0] in {"tests", "bench", "tools"}]


def test_only_app_api_and_console_know_the_web_framework(root):
    broker = root / "broker" / "mcbn_broker"
    allowed = {"app", "api", "console"}
    offenders = [
        where
        for name, where in imports_in(broker)
        if name.partition(".")[0] in {"fastapi", "starlette"}
        and Path(where.partition(":")[0]).relative_to(broker).parts[0].removesuffix(".py") not in allowed
    ]
    assert not offenders
