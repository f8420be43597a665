"""One SQLite database file: how it is opened, and its two kinds of transactions."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from mcbn_broker.errors import LockedError, StorageError
from mcbn_broker.keystore.files import PRIVATE_FILE, check_private
from mcbn_broker.storage.prepared import Prepared

_PATIENT: Final = "PRAGMA busy_timeout = 5000"
_IMPATIENT: Final = "PRAGMA busy_timeout = 0"
_PRAGMAS: Final = (
    _PATIENT,
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a commit is on the disk before it returns
    "PRAGMA foreign_keys = ON",
)
_BEGIN: Final = "mcbn_begin"
_WAIT: Final = "mcbn_wait"
_PRIMARY_CODE: Final = 0xFF  # sqlite.org/rescode.html: the rest of a result code says more of the same error


class Database:
    """Gives read and write transactions. Every failure of the database leaves here as a `StorageError`."""

    def __init__(self, path: Path) -> None:
        _make_private(path)
        self._path = path
        self._engine = create_engine(URL.create("sqlite", database=str(path)), hide_parameters=True)
        self._reader = self._engine.execution_options(**{_BEGIN: "BEGIN"})
        self._impatient = self._engine.execution_options(**{_WAIT: False})
        self._glancer: Connection | None = None
        self._glancing = threading.Lock()
        _set_up(self._engine)

    @contextmanager
    def write(self, *, wait: bool = True) -> Iterator[Connection]:
        """One serialised transaction: it holds the only write lock, and is durable once the block is left.

        Args:
            wait: Wait up to five seconds for another one, perhaps of another process, to end; else not at all. The
                block may be entered in one thread and left in another, one after the other.

        Raises:
            LockedError: Another one has not ended; the block was not entered.
            StorageError: Nothing was written.
        """
        engine = self._engine if wait else self._impatient
        with self._translated(), engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent state, to be read.

        Raises:
            StorageError: It cannot be read.
        """
        with self._translated(), self._reader.begin() as connection:
            yield connection

    def glance(self, statement: Prepared) -> list[tuple[Any, ...]]:
        """Read a few rows on a connection that is kept for this, without the cost of a transaction.

        Raises:
            StorageError: It cannot be read.
        """
        with self._glancing, self._translated():
            if self._glancer is None:
                self._glancer = self._engine.connect()
            try:
                return statement.fetch(self._glancer)
            except sqlite3.Error:
                self._end_glances()
                raise

    def _end_glances(self) -> None:
        glancer, self._glancer = self._glancer, None
        if glancer is not None:
            glancer.close()

    def check_integrity(self) -> None:
        """Check the file's structure (PRAGMA quick_check).

        Raises:
            StorageError: It is damaged.
        """
        with self.read() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        if found != "ok":
            raise self._damaged(str(found))

    def close(self) -> None:
        """Close every connection."""
        with self._glancing:
            self._end_glances()
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self._explain(error) from error

    def _explain(self, error: SQLAlchemyError | sqlite3.Error) -> StorageError:
        cause = error if isinstance(error, sqlite3.Error) else getattr(error, "orig", None)
        code = getattr(cause, "sqlite_errorcode", None)
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return self._damaged(str(cause))
        if code is not None and code & _PRIMARY_CODE == sqlite3.SQLITE_BUSY:
            return LockedError(f"{self._path} is locked, another process writes to it: nothing was written; try again")
        if code == sqlite3.SQLITE_FULL:
            return StorageError(f"the disk of {self._path} is full: nothing was written; make room")
        return StorageError(f"{self._path} cannot be used: {cause or type(error).__name__}; nothing was written")

    def _damaged(self, found: str) -> StorageError:
        return StorageError(
            f"{self._path} is damaged ({found}): stop the broker, keep the file for examination, and restore the "
            "newest backup; without one, move it away: the broker then begins anew, paused, and needs a new epoch"
        )


def _make_private(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE))
    except OSError as error:
        raise StorageError(f"{path} cannot be opened: {error.strerror}") from error
    check_private(path)


def _set_up(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would come too late for IMMEDIATE
        for pragma in _PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        with _patience(connection, wait=options.get(_WAIT, True)):
            connection.exec_driver_sql(options.get(_BEGIN, "BEGIN IMMEDIATE"))


@contextmanager
def _patience(connection: Connection, *, wait: bool) -> Iterator[None]:
    """Wait, or not, for the lock within the block: connections wait, but for this."""
    if wait:
        yield
        return
    connection.exec_driver_sql(_IMPATIENT)
    try:
        yield
    finally:
        connection.exec_driver_sql(_PATIENT)
