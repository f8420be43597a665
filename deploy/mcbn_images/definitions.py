"""Where in the source tree each part of the images comes from."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mcbn_images.errors import UsageError
from mcbn_images.tree import Tree
from mcbn_images.wheels import SITE

_SOURCES: Final = {
    "client": ("protocol/mcbn_protocol", "workload/mcbn_workload"),
    "server": ("protocol/mcbn_protocol", "workload/mcbn_workload"),
    "broker": ("protocol/mcbn_protocol", "broker/mcbn_broker"),
    "simulator": ("protocol/mcbn_protocol", "simulator/mcbn_simulator"),
}
_LEFT_OUT: Final = {"workload/mcbn_workload/key_log.py"}
"""No manifest can make an image give its keys away that does not hold the code for it."""

_SUFFIXES: Final = {".py", ".typed"}
IMAGES: Final = ("client", "server", "broker")
"""The images that are meant to be run for real."""

DEVELOPMENT: Final = ("simulator",)
"""Built only when asked for by name. The simulated attestation service protects nothing."""

WORKLOADS: Final = ("client", "server")
"""The images whose digests participants agree on."""


@dataclass(frozen=True)
class Definitions:
    """The source tree.

    Attributes:
        root: The folder that has `deploy/`, `protocol/` and the others in it.
    """

    root: Path

    @property
    def folder(self) -> Path:
        """Where the definitions and the locks are."""
        return self.root / "deploy" / "images"

    @property
    def example_roster(self) -> Path:
        """A roster whose private keys were thrown away."""
        return self.folder / "example-roster.json"

    @property
    def debs_lock(self) -> Path:
        """The lock of Debian packages, the same for all images."""
        return self.folder / "debs.lock"

    def wheel_lock(self, image: str) -> tuple[Path, Path]:
        """Return the lock of an image's wheels, and the requirements that it is made from."""
        name = "workload" if image in WORKLOADS else image
        return self.folder / f"{name}-wheels.lock", self.root / "requirements" / f"{name}.txt"

    def wheel_locks(self) -> dict[Path, Path]:
        """Return every lock of wheels, with the requirements that it is made from."""
        return dict(self.wheel_lock(image) for image in (*IMAGES, *DEVELOPMENT))

    def package_names(self) -> list[str]:
        """Return the names of the Debian packages, sorted; `#` begins a comment.

        Raises:
            UsageError: The list cannot be read.
        """
        lines = self.read("deploy/images/debs.txt").decode("utf-8").splitlines()
        return sorted({line.partition("#")[0].strip() for line in lines} - {""})

    def version(self) -> str:
        """Return the version of the source.

        Raises:
            UsageError: It cannot be read.
        """
        for line in self.read("protocol/mcbn_protocol/__init__.py").decode("utf-8").splitlines():
            if line.startswith("__version__"):
                return line.partition("=")[2].strip().strip("\"'")
        raise UsageError("protocol/mcbn_protocol/__init__.py has no __version__")

    def source(self, image: str) -> Tree:
        """Return our own packages in an image.

        Raises:
            UsageError: There is a file that cannot be meant, such as an editor's.
        """
        tree = Tree()
        for folder in _SOURCES[image]:
            for path in self.source_files(folder):
                tree.add_file(f"{SITE}/{path.relative_to((self.root / folder).parent).as_posix()}", path.read_bytes())
        return tree

    def source_files(self, folder: str) -> Iterator[Path]:
        """Give the files of one package that go into an image, sorted.

        Raises:
            UsageError: There is a file that cannot be meant, such as an editor's.
        """
        for path in sorted((self.root / folder).rglob("*")):
            if path.is_dir() or "__pycache__" in path.parts:
                continue
            if path.suffix not in _SUFFIXES or path.is_symlink():
                raise UsageError(f"{path.relative_to(self.root)} is no part of the source: remove it, then build again")
            if path.relative_to(self.root).as_posix() not in _LEFT_OUT:
                yield path

    def read(self, name: str) -> bytes:
        """Return a file of the source tree.

        Raises:
            UsageError: It cannot be read.
        """
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise UsageError(
                f"cannot read {name} in {self.root}: {error.strerror}. "
                "Run this in the source tree, or name it with --source"
            ) from error


def find_root() -> Path:
    """Return the source tree that this program is part of, or else the working directory."""
    own = Path(__file__).resolve().parents[2]
    return own if (own / "deploy" / "images").is_dir() else Path.cwd()
