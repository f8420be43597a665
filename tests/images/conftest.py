"""The real images, built from the locked inputs; where those cannot be had any more, from inputs locked anew."""

import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mcbn_images.oci import Image, read_image
from mcbn_images.sources import default_cache
from tests.images.building import Finished, build, copy_of_the_tree, unavailable


@dataclass(frozen=True)
class Built:
    """One build: the source tree, what came of it, and whether the locked inputs could be had."""

    tree: Path
    out: Path
    superseded: str

    @property
    def digests(self) -> Mapping[str, str]:
        """Digest by image."""
        digests: Mapping[str, str] = json.loads((self.out / "digests.json").read_text())
        return digests

    def image(self, name: str) -> Image:
        """Return an image."""
        return read_image(self.out / name)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the images for the example roster from a copy of the tree."""
    folder = tmp_path_factory.mktemp("images")
    tree = copy_of_the_tree(folder / "tree")
    return Built(tree, folder / "out", build(tree, folder / "out"))


@pytest.fixture(scope="session")
def cached() -> Sequence[str]:
    """Return the options with which inputs come from the cache of an earlier build alone."""
    return ("--debs", str(default_cache()), "--wheels", str(default_cache()))


@pytest.fixture(scope="session")
def root_of(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that unpacks an image by name, and gives its root directory."""
    folder = tmp_path_factory.mktemp("roots")

    def unpacked(name: str) -> Path:
        root = folder / name
        if not root.exists():
            unpack(built.out / name, root)
        return root

    return unpacked


def unpack(layout: Path, root: Path) -> None:
    """Lay an image's layers over each other in a folder."""
    root.mkdir(mode=0o755)

    def blob(descriptor: Mapping[str, Any]) -> Path:
        return layout / "blobs" / descriptor["digest"].replace(":", "/")

    index = json.loads((layout / "index.json").read_text())
    for layer in json.loads(blob(index["manifests"][0]).read_text())["layers"]:
        with tarfile.open(blob(layer)) as tar:
            tar.extractall(root, filter="tar")  # absolute links stay: they are read inside the root only


@pytest.fixture(scope="session")
def run_in() -> Callable[..., Finished]:
    """Return a function that runs a command with a folder as its root directory, as the images' user."""
    inside = ["chroot", "--userspec=65532:65532"] if os.getuid() == 0 else ["unshare", "--map-root-user", "chroot"]

    def run(root: Path, command: Sequence[str], **variables: str) -> Finished:
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"} | variables
        return subprocess.run(
            [*inside, str(root), *command], cwd="/", env=clean, capture_output=True, text=True, check=False
        )

    if os.getuid() != 0 and subprocess.run([*inside, "/", "true"], capture_output=True, check=False).returncode != 0:
        unavailable("to run in an image's root directory, root or user namespaces are needed")
    return run
