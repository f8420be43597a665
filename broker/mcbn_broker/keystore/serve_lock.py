"""Locks between processes on one data directory: the one `serve`, and short pieces of work."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mcbn_broker.errors import KeystoreError, NotReadyError
from mcbn_broker.keystore.files import PRIVATE_FILE

SERVE_LOCK: Final = "serve.lock"
_TURNS: Final = "serve-turns.lock"  # so that a look at the lock never makes a serve that starts find it taken


@contextmanager
def serve_lock(root: Path) -> Iterator[None]:
    """Hold the lock; the operating system gives it back when the process ends, however it ends.

    Raises:
        NotReadyError: Another process serves from this data directory.
        KeystoreError: The lock file cannot be made.
    """
    descriptor = _open(root / SERVE_LOCK)
    try:
        with file_lock(root / _TURNS):
            free = _lock_now(descriptor)
        if not free:
            raise NotReadyError(f"another serve runs on {root}: stop it first, or give another --data-dir")
        yield
    finally:
        os.close(descriptor)


def is_serving(root: Path) -> bool:
    """Return whether a process holds the lock of this data directory now.

    Raises:
        KeystoreError: A lock file cannot be made.
    """
    with file_lock(root / _TURNS):
        descriptor = _open(root / SERVE_LOCK)
        try:
            return not _lock_now(descriptor)
        finally:
            os.close(descriptor)


def _lock_now(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a lock for a short piece of work, waiting for whoever holds it.

    Raises:
        KeystoreError: The lock file cannot be made.
    """
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as error:
        raise KeystoreError(f"{path} cannot be opened: {error.strerror}") from error
