"""The database together with its anchor: every transaction that wrote audit records moves both."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, func, select

from mcbn_broker.audit.chain import ChainHead
from mcbn_broker.errors import StorageError
from mcbn_broker.keystore.home import Home
from mcbn_broker.release.stores import Terms
from mcbn_broker.storage.database import Database
from mcbn_broker.storage.prepared import Prepared
from mcbn_broker.storage.schema import audit, meta
from mcbn_broker.storage.terms import TermsReader
from mcbn_broker.storage.transaction import StoreTransaction, read_head, why_older

_REVISION: Final = Prepared(
    select(meta.c.revision, meta.c.incarnation, select(func.max(audit.c.sequence)).scalar_subquery())
)


class Journal:
    """An opened database of a known incarnation (16 bytes)."""

    def __init__(self, home: Home, database: Database, incarnation: bytes) -> None:
        self.home = home
        self.incarnation = incarnation
        self._database = database
        self._terms = TermsReader(home)
        self._seen = 0  # the highest audit sequence that this process knows to have been durable

    @contextmanager
    def transaction(self, *, wait: bool = True) -> Iterator[StoreTransaction]:
        """One serialised transaction. Once the block is left it is durable, and the anchor knows of it.

        The anchor comes after the commit: so it never claims a record that a crash prevented. It is looked at first
        too, for the file may be exchanged for an older copy at any time, and with it a pause or a used challenge.

        Args:
            wait: See `Database.write`.

        Raises:
            LockedError: Another transaction has not ended; this one was not begun.
            StorageError: Nothing was written.
            KeystoreError: The anchor cannot follow; what depends on this transaction must not go out.
        """
        with self._database.write(wait=wait) as connection:
            transaction = StoreTransaction(connection, self._terms.read)
            self._check_anchored(transaction)
            yield transaction
            transaction.flush()
        head = transaction.head
        self.home.anchor.advance(self.incarnation, head.sequence, head.hash, transaction.highest_epoch)
        self._seen = head.sequence

    def _check_anchored(self, transaction: StoreTransaction) -> None:
        anchored = self.home.anchor.glance()
        anchored.check_incarnation(self.incarnation)
        why = why_older(transaction.connection, transaction.head, anchored)
        if why is not None:
            raise _exchanged(why)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent state, to be read.

        Raises:
            StorageError: It cannot be read.
        """
        with self._database.read() as connection:
            yield connection

    def terms(self) -> Terms:
        """Return what may be released at present.

        Raises:
            BrokerError: It cannot be read.
        """
        seen = self._seen  # before the database, which the ledger moves first
        ((revision, incarnation, sequence),) = self._database.glance(_REVISION)
        self._check_not_older(incarnation, sequence or 0, seen)
        known = self._terms.known(revision, incarnation)
        if known is not None:
            return known
        with self._database.read() as connection:
            return self._terms.read(connection)

    def _check_not_older(self, incarnation: bytes, sequence: int, seen: int) -> None:
        if incarnation != self.incarnation:
            raise _exchanged("it began a new incarnation")
        if sequence < seen:
            raise _exchanged(f"it ends at record {sequence}, this process saw {seen}")
        self._seen = max(sequence, self._seen)

    def head(self) -> ChainHead:
        """Return the audit's end.

        Raises:
            StorageError: It cannot be read.
        """
        with self._database.read() as connection:
            return read_head(connection)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _exchanged(why: str) -> StorageError:
    return StorageError(f"the database was exchanged while this process used it ({why}): restart the broker")
