"""Opens the broker's database for a command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcbn_broker.cli.paths import resolve_data_dir
from mcbn_broker.cli.text import warn
from mcbn_broker.keystore.home import Home
from mcbn_broker.moments import now
from mcbn_broker.storage.store import Store


@contextmanager
def open_store(home: Home, *, thorough: bool = False) -> Iterator[Store]:
    """Open the broker's database beside a running `serve`, and say loudly if this began a new incarnation.

    Raises:
        BrokerError: The database cannot be used.
    """
    with Store.open(home, clock=now, thorough=thorough) as store:
        if store.opened.new_incarnation is not None:
            warn(f"NEW INCARNATION, CONSENT PAUSED: {store.opened.new_incarnation}")
        yield store


@contextmanager
def open_keyless_store(data_dir: Path | None, *, thorough: bool = False) -> Iterator[Store]:
    """Open the database without any key: a pause must not fail because a key is not at hand.

    Raises:
        BrokerError: `init` was not run, or the database cannot be used.
    """
    with open_store(Home.open(resolve_data_dir(data_dir), None), thorough=thorough) as store:
        yield store
