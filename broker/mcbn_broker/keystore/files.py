"""Private files: mode 0600, replaced atomically, durable before the call returns."""

import os
import stat
from pathlib import Path
from typing import Final

from mcbn_broker.errors import KeystoreError

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700
_EXPOSED: Final = 0o077
FILE_BYTES_MAX: Final = 64 * 1024


def check_private(path: Path) -> None:
    """Check that a file or folder is ours, and that nobody but its owner has any permission on it.

    Raises:
        KeystoreError: It is missing, another user's, or its mode gives something to group or others.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise KeystoreError(f"{path} cannot be read: {error.strerror}") from error
    mode, ours = stat.S_IMODE(found.st_mode), os.geteuid()
    if found.st_uid != ours:
        raise KeystoreError(
            f"{path} belongs to user {found.st_uid}, this runs as {ours}: run it as that user (sudo -u), or chown the "
            "files after finding out who made them"
        )
    if mode & _EXPOSED:
        raise KeystoreError(f"{path} has mode {mode:04o}, open to others: find out who read it, then: chmod go= {path}")


def read_private(path: Path) -> bytes:
    """Return the content of a private file of at most 64 KiB.

    Raises:
        KeystoreError: Missing, unreadable, too large, or open to others.
    """
    check_private(path)
    return read_checked(path)


def read_checked(path: Path) -> bytes:
    """Return the content of a file whose owner and mode the caller has checked, of at most 64 KiB.

    Raises:
        KeystoreError: Unreadable or too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise KeystoreError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise KeystoreError(f"{path} is larger than {FILE_BYTES_MAX} bytes: it is not a file of this program")
    return data


def write_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 so that after a crash it is either the old or the new one; durable on return.

    Raises:
        KeystoreError: The file system refused.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.unlink(missing_ok=True)
        _write_new(partial, data)
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise KeystoreError(f"{path} cannot be written: {error.strerror}") from error


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def create_private(path: Path, data: bytes) -> None:
    """Write a new file of mode 0600, durable on return; an existing file is never touched.

    Raises:
        KeystoreError: It exists, or the file system refused.
    """
    try:
        _write_new(path, data)
        sync_folder(path.parent)
    except OSError as error:
        raise KeystoreError(f"{path} cannot be created: {error.strerror}") from error


def make_private_folder(path: Path) -> None:
    """Make a folder of mode 0700, with its parents; one that exists must already be private.

    Raises:
        KeystoreError: It cannot be made, or is open to others.
    """
    try:
        path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise KeystoreError(f"{path} cannot be made: {error.strerror}") from error
    check_private(path)


def destroy(path: Path) -> None:
    """Overwrite, unlink and forget a file; one that is gone already is fine.

    The overwriting is best effort: journals, snapshots and flash may keep copies, which is why such files are sealed.

    Raises:
        KeystoreError: The file system refused.
    """
    try:
        with path.open("r+b", buffering=0) as file:
            file.write(bytes(path.stat().st_size))
            os.fsync(file.fileno())
        path.unlink()
        sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise KeystoreError(f"{path} cannot be destroyed: {error.strerror}") from error


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable (fsync of the folder)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
