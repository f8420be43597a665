"""A private folder for a moment: whatever ends the program, its next run clears it away."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def staging(prefix: str, parent: Path) -> Iterator[Path]:
    """Make a private folder, and remove it when the block is left; first, those of runs that were killed.

    Args:
        prefix: What the names of all such folders begin with.
        parent: Where they are.

    Raises:
        OSError: The file system refuses.
    """
    with ExitStack() as held:
        with _locked(parent):  # between a folder's birth and its lock nobody may take it for an abandoned one
            for left in parent.glob(f"{prefix}*"):
                _remove_abandoned(left)
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            held.enter_context(_locked(folder))
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


@contextmanager
def _locked(folder: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    try:
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(folder)
    except BlockingIOError:
        return  # somebody works in it
