"""The database together with its anchor: every transaction that wrote audit records moves both."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, select

from mcbn_broker.audit.chain import ChainHead
from mcbn_broker.keystore.home import Home
from mcbn_broker.release.stores import Terms
from mcbn_broker.storage.database import Database
from mcbn_broker.storage.prepared import Prepared
from mcbn_broker.storage.schema import meta
from mcbn_broker.storage.terms import TermsReader
from mcbn_broker.storage.transaction import StoreTransaction, read_head

_REVISION: Final = Prepared(select(meta.c.revision, meta.c.incarnation))


class Journal:
    """An opened database of a known incarnation (16 bytes)."""

    def __init__(self, home: Home, database: Database, incarnation: bytes) -> None:
        self.home = home
        self.incarnation = incarnation
        self._database = database
        self._terms = TermsReader(home)

    @contextmanager
    def transaction(self) -> Iterator[StoreTransaction]:
        """One serialised transaction. Once the block is left it is durable, and the anchor knows of it.

        The anchor comes after the commit: so it never claims a record that a crash prevented.

        Raises:
            StorageError: Nothing was written.
            KeystoreError: The anchor cannot follow; what depends on this transaction must not go out.
        """
        with self._database.write() as connection:
            transaction = StoreTransaction(connection, self._terms.read)
            yield transaction
            transaction.flush()
        head = transaction.head
        self.home.anchor.advance(self.incarnation, head.sequence, head.hash, transaction.accepted_epoch)

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
        ((revision, incarnation),) = self._database.glance(_REVISION)
        known = self._terms.known(revision, incarnation)
        if known is not None:
            return known
        with self._database.read() as connection:
            return self._terms.read(connection)

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
