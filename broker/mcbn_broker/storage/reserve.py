"""Disk space that is kept so that a pause can be written on a full disk."""

import os
from pathlib import Path
from typing import Final

from mcbn_broker.keystore.files import PRIVATE_FILE

RESERVE_BYTES: Final = 1024 * 1024


class Reserve:
    """A file of 1 MiB that a pause gives up when the disk is full, and that is made again once there is room."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def keep(self) -> None:
        """Make the reserve if it is not there. Best effort: without room there is nothing to keep."""
        if self._path.exists():
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            self.give_up()

    def give_up(self) -> bool:
        """Free the space. False: there was none left to free."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
