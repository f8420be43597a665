"""Opens the broker's home and database for a command."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mcbn_broker.cli.paths import resolve_data_dir, resolve_kek
from mcbn_broker.cli.text import warn
from mcbn_broker.keystore.home import Home
from mcbn_broker.storage.store import Store


def now() -> int:
    """Return the time in Unix seconds."""
    return int(time.time())


def open_home(data_dir: Path | None, kek_file: Path | None, kek: str | None, kms_endpoint: str | None) -> Home:
    """Open the broker's folder together with its keys, wherever the options say they are.

    Raises:
        BrokerError: `init` was not run, or the key-encryption key cannot be used.
    """
    root = resolve_data_dir(data_dir)
    return Home.unlock(root, resolve_kek(kek_file, kek, kms_endpoint).load)


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
