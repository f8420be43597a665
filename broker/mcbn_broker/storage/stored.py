"""What was stored and cannot be read back is a fault of the store, whatever the parser calls it."""

from collections.abc import Iterator
from contextlib import contextmanager

from mcbn_broker.errors import StorageError
from mcbn_protocol.errors import ProtocolError


@contextmanager
def stored(what: str) -> Iterator[None]:
    """Wrap a block, or a function, that reads what this program once wrote.

    Raises:
        StorageError: The block raised a ProtocolError or a ValueError.
    """
    try:
        yield
    except (ProtocolError, ValueError) as error:
        raise StorageError(f"a stored {what} was altered: {error}; restore a backup") from error
