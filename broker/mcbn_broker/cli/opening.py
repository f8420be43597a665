"""Opens the broker's home for a command: what it is, and its keys."""

from pathlib import Path

from mcbn_broker.cli.paths import resolve_data_dir, resolve_kek
from mcbn_broker.keystore.home import Home


def open_home(data_dir: Path | None, kek_file: Path | None, kek: str | None, kms_endpoint: str | None) -> Home:
    """Open the broker's folder together with its keys, wherever the options say they are.

    Raises:
        BrokerError: `init` was not run, or the key-encryption key cannot be used.
    """
    root = resolve_data_dir(data_dir)
    return Home.unlock(root, resolve_kek(kek_file, kek, kms_endpoint).load)
