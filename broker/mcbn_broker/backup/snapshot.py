"""Copies a data directory to one encrypted file, beside a running broker."""

import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Final

from sqlalchemy import select

from mcbn_broker.backup.archive import pack
from mcbn_broker.backup.envelope import SealingStream
from mcbn_broker.backup.facts import Facts, read_facts
from mcbn_broker.backup.staging import staging
from mcbn_broker.ceremony.passphrase import Passphrase
from mcbn_broker.errors import StorageError, UsageError
from mcbn_broker.keystore.files import PRIVATE_FILE, sync_folder
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.kek import WRAPPED_NAME
from mcbn_broker.storage.database import Database
from mcbn_broker.storage.schema import manifests
from mcbn_protocol.encoding import canonical

FORMAT: Final = "mcbn-backup-v1"
_PLAIN: Final = (
    *("broker.json", "broker.toml", "consent-key.public", "policy.toml", "release.key", "roster.json"),
    WRAPPED_NAME,
)


def write_backup(
    home: Home,
    out: Path,
    passphrase: Passphrase,
    *,
    now: int,
    random: Callable[[int], bytes],
    epoch_keys: bool,
    force: bool,
) -> Facts:
    """Write a backup, which appears complete or not at all, with mode 0600.

    Args:
        home: The data directory; no key is needed.
        out: The file to write.
        passphrase: What `restore` will need.
        now: Unix seconds.
        random: Gives that many random bytes.
        epoch_keys: Whether the keys of epochs that are not retired go along.
        force: Replace a file that is there.

    Returns:
        How far the broker had come.

    Raises:
        UsageError: There is a file, or it cannot be written.
        BrokerError: The data directory cannot be read.
    """
    if out.exists() and not force:
        raise UsageError(f"{out} exists: choose another name, or give --force to replace it")
    try:
        with staging(".backup-", home.root) as stage, _appearing(out) as file:
            facts = _stage(home, stage, now=now)
            keys = _epoch_keys(home, stage) if epoch_keys else []
            pack(stage, SealingStream(file, passphrase, random), keys)
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror or error}") from error
    return facts


def _stage(home: Home, stage: Path, *, now: int) -> Facts:
    """Copy what belongs into a backup. The database comes first: what is destroyed after it is not missed."""
    _copy_database(home.database_path, stage / home.database_path.name)
    for name in _PLAIN:
        if (home.root / name).exists():
            _copy(home.root / name, stage / name)
    facts = read_facts(Home.open(stage, None))
    (stage / "backup.json").write_bytes(canonical({"format": FORMAT, "made_at": now}))
    return facts


def _copy_database(source: Path, target: Path) -> None:
    """Copy one consistent state (SQLite's online backup), beside whoever writes."""
    if not source.exists():
        raise StorageError(f"{source} is not there: there is nothing to back up")
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
    try:
        with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
            old.execute("PRAGMA busy_timeout = 5000")
            old.backup(new)
    except sqlite3.Error as error:
        raise StorageError(f"{source} cannot be copied: {error}") from error


def _epoch_keys(home: Home, stage: Path) -> list[Path]:
    """Return the files of the keys that the copied database does not call retired."""
    retired = _retired(stage / home.database_path.name)
    return [home.epoch_keys.folder / f"{epoch}.key" for epoch in home.epoch_keys.epochs() if epoch not in retired]


def _copy(source: Path, target: Path) -> None:
    """Copy a file to a private one."""
    with source.open("rb") as old:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as new:
            shutil.copyfileobj(old, new)


def _retired(path: Path) -> set[int]:
    database = Database(path)
    try:
        with database.read() as connection:
            return set(
                connection.execute(select(manifests.c.epoch).where(manifests.c.retired_at.isnot(None))).scalars()
            )
    finally:
        database.close()


@contextmanager
def _appearing(out: Path) -> Iterator[IO[bytes]]:
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
        sync_folder(out.parent)
    finally:
        temporary.unlink(missing_ok=True)
