"""Unpacks wheels (the binary distribution format of PyPA) without pip, whose traces differ from machine to machine."""

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mcbn_images.errors import InputError
from mcbn_images.pins import WheelPin
from mcbn_images.tree import Tree

SITE: Final = "usr/local/lib/python3.11/dist-packages"
"""Where Debian's Python 3.11 looks for packages, isolated (`-I`) or not."""

_INSTALLERS_NOTES: Final = ("RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED", "direct_url.json")
_UNIX_MODE: Final = 16  # where a zip entry's external attributes keep it


def wheels_layer(wheels: Iterable[tuple[WheelPin, Path]]) -> Tree:
    """Return the packages of several wheels, in one directory.

    Raises:
        InputError: A wheel cannot be read, reaches out of its directory, or disagrees with another about a file.
    """
    tree = Tree()
    for pin, path in wheels:
        tree.merge(wheel_tree(pin, path))
    return tree


def wheel_tree(pin: WheelPin, path: Path) -> Tree:
    """Return one wheel's files. Scripts and headers are left out, and what an installer would note down.

    Raises:
        InputError: It cannot be read, or reaches out of its directory.
    """
    tree = Tree()
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                place = None if info.is_dir() else _place(info.filename)
                if place is not None:
                    executable = bool(info.external_attr >> _UNIX_MODE & 0o111)
                    tree.add_file(place, archive.read(info), executable=executable)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise InputError(f"{pin.filename}: {error}") from error
    return tree


def _place(name: str) -> str | None:
    """Return where a wheel's member belongs, or None if it is left out."""
    top, _, rest = name.partition("/")
    if top.endswith(".dist-info") and rest in _INSTALLERS_NOTES:
        return None
    if not top.endswith(".data"):
        return f"{SITE}/{name}"
    scheme, _, inner = rest.partition("/")
    if scheme in {"purelib", "platlib"}:
        return f"{SITE}/{inner}"
    if scheme == "data":
        return f"usr/local/{inner}"
    if scheme in {"scripts", "headers"}:
        return None
    raise InputError(f"{name}: a wheel's part for {scheme!r} is not known")
