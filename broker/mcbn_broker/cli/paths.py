"""Where a broker's data directory and key-encryption key are, when the command line does not say."""

import os
from pathlib import Path
from typing import Final

from mcbn_broker.keystore.kek import find_kek

SYSTEM_DATA_DIR: Final = Path("/var/lib/mcbn-broker")


def resolve_data_dir(option: Path | None) -> Path:
    """Return the data directory: `--data-dir` or MCBN_DATA_DIR; for root the system's; else the user's own."""
    if option is not None:
        return option
    if os.geteuid() == 0:
        return SYSTEM_DATA_DIR
    state = os.environ.get("XDG_STATE_HOME", "")
    # The XDG base directory specification has relative paths ignored.
    base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
    return base / "mcbn-broker"


def resolve_kek_file(option: Path | None) -> Path:
    """Return the key-encryption key's file: `--kek-file` or MCBN_KEK_FILE; else systemd's credential `mcbn-kek`.

    Raises:
        UsageError: None of them is given.
    """
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    return find_kek(option, Path(credentials) if credentials else None)
