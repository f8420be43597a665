"""Where a broker's data directory and key-encryption key are, when the command line does not say."""

import os
from pathlib import Path
from typing import Final

from mcbn_broker.errors import UsageError
from mcbn_broker.keystore.credentials import credentials_directory
from mcbn_broker.keystore.home import is_data_dir
from mcbn_broker.keystore.kek import find_kek
from mcbn_broker.keystore.kek_source import KekSource, choose_kek

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


def check_outside(out: Path, why: str) -> None:
    """Check that a file would not lie in a broker's data directory, whichever it is.

    Raises:
        UsageError: It would; `why` says what that would spoil.
    """
    for folder in out.resolve().parents:
        if is_data_dir(folder):
            raise UsageError(f"{out} would lie in the broker's data directory {folder}: {why}; name a place outside")


def resolve_kek_file(option: Path | None) -> Path:
    """Return the key-encryption key's file: `--kek-file` or MCBN_KEK_FILE; else systemd's credential `mcbn-kek`.

    Raises:
        UsageError: None of them is given.
    """
    return find_kek(option, credentials_directory())


def resolve_kek(kek_file: Path | None, kek: str | None, kms_endpoint: str | None) -> KekSource:
    """Return where the key-encryption key comes from: `--kek` or MCBN_KEK; else a file, found as above.

    Raises:
        UsageError: Nothing or two things are named.
    """
    return choose_kek(kek, kek_file if kek is not None else resolve_kek_file(kek_file), kms_endpoint)
