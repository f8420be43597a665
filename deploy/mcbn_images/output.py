"""Writes what a build gives: layouts, archives, digests and terms."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from mcbn_images.errors import UsageError
from mcbn_images.oci import Image, write_archive, write_layout
from mcbn_images.terms import terms, workload_role

DIGESTS = "digests.json"


def write_images(images: Mapping[str, Image], folder: Path, bills: Mapping[str, bytes] | None = None) -> None:
    """Write images into a folder: `NAME/` (OCI layout), `NAME.tar` (loadable), `terms-ROLE.toml`, `digests.json`.

    What an earlier build left under these names is replaced.

    Args:
        images: By name.
        folder: Where to; made if need be.
        bills: By image name, a bill of materials, written as `NAME.cdx.json`.

    Raises:
        UsageError: The folder cannot be written, or holds something else under an image's name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in images.items():
            _make_room(folder / name)
            write_layout(image, folder / name, reference(name))
            write_archive(image, folder / f"{name}.tar", reference(name))
            role = workload_role(image)
            if role is not None:
                (folder / f"terms-{name}.toml").write_text(terms(role, image), encoding="utf-8")
        for name, bill in (bills or {}).items():
            (folder / f"{name}.cdx.json").write_bytes(bill)
        (folder / DIGESTS).write_text(digests_json(images), encoding="ascii")
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}") from error


def _make_room(layout: Path) -> None:
    """Remove an earlier build's layout, and nothing else.

    Raises:
        UsageError: Something else is there.
    """
    if not layout.exists():
        return
    if not (layout / "oci-layout").is_file() and any(layout.iterdir()):
        raise UsageError(f"{layout} is no image layout: choose another --out, or remove it")
    shutil.rmtree(layout)


def reference(name: str) -> str:
    """Return the name that an engine gives an image when it loads it."""
    return f"mcbn-{name}:latest"


def digests_json(images: Mapping[str, Image]) -> str:
    """Return the digests by image, as JSON."""
    return json.dumps({name: image.digest for name, image in images.items()}, indent=2) + "\n"
