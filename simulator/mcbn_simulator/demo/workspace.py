"""The demo's one folder: made private, and gone at the end."""

import contextlib
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

from mcbn_simulator.errors import SimulatorError


class Workspace:
    """Where things are.

    Attributes:
        root: The folder, mode 0700. Its name is short: unix sockets in it have at most 107 bytes (unix(7)).
        logs: What each process said.
        post: The files that participants send to each other; nothing in it is secret.
        site: The page that the server's application shows.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.logs = _folder(root / "logs")
        self.post = _folder(root / "post")
        self.site = _folder(root / "site")

    def desk(self, participant: str) -> Path:
        """A participant's own folder."""
        return _folder(self.root / participant)

    def vm(self, name: str) -> Path:
        """A VM's folder: its image's files, its launcher's socket."""
        return _folder(self.root / f"vm-{name}")


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, exist_ok=True)
    return path


@contextlib.contextmanager
def workspace(*, keep: bool) -> Generator[Workspace]:
    """Make the folder; remove it at the end, whatever happened, unless it is to be kept.

    Raises:
        SimulatorError: There is no room for it.
    """
    try:
        root = Path(tempfile.mkdtemp(prefix="mcbn-demo-"))
    except OSError as error:
        raise SimulatorError(
            f"No temporary folder can be made: {error}. Set TMPDIR to one that is writable."
        ) from error
    try:
        yield Workspace(root)
    finally:
        if not keep:
            shutil.rmtree(root)
