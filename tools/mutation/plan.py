"""What is mutated and which tests have to notice."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """One project under mutation.

    Attributes:
        root: Where pytest is run.
        modules: Path below the root of each mutated module -> its import name.
        tests: Files and folders below the root that pytest is given.
        ours: First names of import packages that every mutant needs fresh; all others are loaded once.
    """

    root: Path
    modules: dict[str, str]
    tests: tuple[str, ...]
    ours: frozenset[str]

    @cached_property
    def sources(self) -> dict[str, bytes]:
        """Each mutated module's text, read once, so that a run is of one state."""
        return {module: (self.root / module).read_bytes() for module in self.modules}

    @cached_property
    def test_files(self) -> dict[str, bytes]:
        """Every Python file of the tests, with the shared fixtures of the folders above them, read once."""
        found: set[Path] = set()
        for name in self.tests:
            path = self.root / name
            found.update(path.rglob("*.py") if path.is_dir() else [path])
            found.update(above / "conftest.py" for above in path.parents if (above / "conftest.py").is_file())
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in sorted(found)}

    def tests_digest(self, killer: str = "") -> str:
        """Return the SHA-256 of all tests, or of the file of one test with what test files share."""
        chosen = killer.partition("::")[0]
        digest = hashlib.sha256()
        for name, data in self.test_files.items():
            if not killer or name == chosen or not name.rpartition("/")[2].startswith("test_"):
                digest.update(f"{name}\0".encode() + data + b"\0")
        return digest.hexdigest()


def modules_in(root: Path, sources: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return path -> import name of every module at (source root, path in it), where a path may be a folder."""
    found = {}
    for source_root, name in sources:
        path = root / source_root / name
        for one in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            dotted = ".".join(one.relative_to(root / source_root).with_suffix("").parts)
            found[one.relative_to(root).as_posix()] = dotted.removesuffix(".__init__")
    return found
