"""Opens a backup's file, and says its name together with what is wrong with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcbn_broker.backup.envelope import Reader
from mcbn_broker.backup.errors import BackupError
from mcbn_broker.errors import UsageError


class BackupFile:
    """A backup that is open for reading, from its beginning."""

    def __init__(self, path: Path, stream: Reader) -> None:
        self.path = path
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, fewer only at the end.

        Raises:
            UsageError: It cannot be read.
        """
        try:
            return self._stream.read(size)
        except OSError as error:
            raise _unreadable(self.path, error) from error

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Say the file's name together with what is wrong in it.

        Raises:
            BackupError: What the block raised.
        """
        try:
            yield
        except BackupError as error:
            raise BackupError(f"{self.path}: {error}") from error


@contextmanager
def opened(path: Path) -> Iterator[BackupFile]:
    """Open a backup's file.

    Raises:
        UsageError: It cannot be opened.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error
    with stream:
        yield BackupFile(path, stream)


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot read {path}: {error.strerror}")
