"""The key-encryption key: 32 raw bytes in a private file or a credential, outside of the data directory."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mcbn_broker.errors import KeystoreError, UsageError
from mcbn_broker.keystore.credentials import read_secret
from mcbn_broker.keystore.files import create_private, make_private_folder
from mcbn_broker.keystore.sealing import KEY_BYTES
from mcbn_protocol.secret import Secret

CREDENTIAL_NAME: Final = "mcbn-kek"
WRAPPED_NAME: Final = "kek.wrapped"
"""The file in the data directory of a broker whose key-encryption key Cloud KMS wraps."""


class KeyEncryptionKey(Secret):
    """The key under which the other keys are sealed at rest."""

    __slots__ = ()


def find_kek(kek_file: Path | None, credentials_directory: Path | None) -> Path:
    """Return where the key-encryption key is.

    Args:
        kek_file: What the user said, or None.
        credentials_directory: systemd's `$CREDENTIALS_DIRECTORY` (systemd.exec(5)), or None.

    Raises:
        UsageError: Neither was given.
    """
    if kek_file is not None:
        return kek_file
    if credentials_directory is not None:
        return credentials_directory / CREDENTIAL_NAME
    raise UsageError(
        "no key-encryption key was named: give --kek-file FILE (MCBN_KEK_FILE) or, for a key in Cloud KMS, "
        "--kek gcp-kms://... (MCBN_KEK); or let systemd load the credential "
        f"{CREDENTIAL_NAME} (LoadCredential=)"
    )


def load_kek(path: Path, data_dir: Path) -> KeyEncryptionKey:
    """Read the key-encryption key.

    Raises:
        KeystoreError: Missing, inside of the data directory, open to others, or not 32 bytes.
    """
    _check_outside(path, data_dir)
    if not path.exists():
        raise KeystoreError(
            f"the key-encryption key {path} is not there: restore it from its backup, or correct --kek-file "
            "(a new broker's is made by init --create-kek)"
        )
    raw = read_secret(path)
    if len(raw) != KEY_BYTES:
        raise KeystoreError(f"{path} has {len(raw)} bytes where a key-encryption key has {KEY_BYTES}")
    return KeyEncryptionKey(raw)


def create_kek(path: Path, data_dir: Path, random: Callable[[int], bytes] = os.urandom) -> KeyEncryptionKey:
    """Make a key-encryption key in a new file.

    Raises:
        KeystoreError: The file exists, would lie inside of the data directory, or cannot be written.
    """
    _check_outside(path, data_dir)
    key = KeyEncryptionKey(random(KEY_BYTES))
    if not path.parent.exists():
        make_private_folder(path.parent)
    create_private(path, key.reveal())
    return key


def _check_outside(path: Path, data_dir: Path) -> None:
    if path.resolve().is_relative_to(data_dir.resolve()):
        raise KeystoreError(
            f"{path} lies inside of the data directory {data_dir}: a backup would hold the keys together with what "
            "they open; keep it elsewhere"
        )
