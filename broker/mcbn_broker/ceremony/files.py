"""Reads and writes the files of the set-up: limited reads, no silent overwriting, nothing half-written."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mcbn_broker.errors import UsageError

PUBLIC: Final = 0o666  # less the umask
PRIVATE: Final = 0o600


def read_file(path: Path, *, limit: int) -> bytes:
    """Return a file's bytes.

    Raises:
        UsageError: It cannot be read, or has more than `limit` bytes.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > limit:
        raise UsageError(f"{path} has more than {limit} bytes: is it the right file?")
    return data


def read_beside(path: Path, name: str, *, limit: int) -> bytes:
    """Return the bytes of a file that the file `path` names, which somebody else may have written.

    Only plain names are followed, and no links: else the other one chooses which private file of ours is read.

    Raises:
        UsageError: Not a plain name of a regular file in the same folder, unreadable, or more than `limit` bytes.
    """
    beside = path.parent / name
    if beside.name != name or "\0" in name or beside.is_symlink() or not beside.is_file():
        raise UsageError(f"{path} names {name!r}: the plain name of a file beside it is expected, and no link")
    return read_file(beside, limit=limit)


def write_new(path: Path, data: bytes, *, mode: int, force: bool) -> None:
    """Write a file that appears complete or not at all, and is on the disk when this returns.

    Args:
        path: Where; its folder must exist.
        data: The content.
        mode: `PUBLIC` or `PRIVATE`.
        force: Replace a file that is there. Without it, only one that has exactly this content already is no error.

    Raises:
        UsageError: There is another file already, or it cannot be written.
    """
    try:
        if force:
            _replace(path, data, mode)
        else:
            _create(path, data, mode)
    except FileExistsError as error:
        raise UsageError(f"{path} exists and has another content: move it away, or choose another name") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _create(path: Path, data: bytes, mode: int) -> None:
    """Take the name first, then put the content in its place: works on file systems without hard links too."""
    if path.is_file() and path.read_bytes() == data:
        return
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        _replace(path, data, mode)
    except OSError:
        path.unlink()
        raise


def _replace(path: Path, data: bytes, mode: int) -> None:
    with _beside(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
