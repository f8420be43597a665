"""Reads Debian packages (deb(5)): an `ar` archive with a tar of metadata and a tar of files."""

import gzip
import lzma
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mcbn_images.errors import InputError
from mcbn_images.tree import Tree, read_archive

_MAGIC: Final = b"!<arch>\n"
_HEADER: Final = 60
_DECOMPRESSORS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "": bytes,
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
}


@dataclass(frozen=True)
class Deb:
    """One package: its control file, and its files as they are in the archive."""

    control: bytes
    files: Tree


def read_deb(path: Path) -> Deb:
    """Read a package's file.

    Raises:
        InputError: It is no Debian package, or is compressed with zstd and there is no `dpkg-deb` to read it.
    """
    members = _members(path)
    control = read_archive(_tar(path, members, "control.tar", "--ctrl-tarfile"))
    if "control" not in control.entries:
        raise InputError(f"{path.name} has no control file")
    return Deb(control.entries["control"].data, read_archive(_tar(path, members, "data.tar", "--fsys-tarfile")))


def _members(path: Path) -> dict[str, bytes]:
    data = path.read_bytes()
    if not data.startswith(_MAGIC):
        raise InputError(f"{path.name} is no Debian package")
    members = {}
    position = len(_MAGIC)
    while position + _HEADER <= len(data):
        header = data[position : position + _HEADER]
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), header[48:58].strip()
        if not size.isdigit():
            raise InputError(f"{path.name} is damaged: no member's header at byte {position}")
        start = position + _HEADER
        members[name] = data[start : start + int(size)]
        position = start + int(size) + int(size) % 2  # members begin at even places
    return members


def _tar(path: Path, members: dict[str, bytes], name: str, option: str) -> bytes:
    for suffix, decompress in _DECOMPRESSORS.items():
        if name + suffix in members:
            try:
                return decompress(members[name + suffix])
            except (OSError, EOFError, lzma.LZMAError) as error:
                raise InputError(f"{path.name}: {name}{suffix} is damaged: {error}") from error
    if name + ".zst" in members:
        return _by_dpkg(path, option)
    raise InputError(f"{path.name} has no {name} in a form that is known: {' '.join(members)}")


def _by_dpkg(path: Path, option: str) -> bytes:
    """Let dpkg unpack what Python's standard library cannot: zstd."""
    program = shutil.which("dpkg-deb")
    if program is None:
        raise InputError(f"{path.name} is compressed with zstd, which needs the program dpkg-deb: install dpkg")
    result = subprocess.run([program, option, str(path)], capture_output=True, check=False)
    if result.returncode != 0:
        raise InputError(f"dpkg-deb cannot read {path.name}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout
