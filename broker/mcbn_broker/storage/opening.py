"""Opens the store: schema, integrity, and whether this is still the database that the anchor knows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, insert, select, update

from mcbn_broker.audit.chain import AuditKind, ChainHead
from mcbn_broker.errors import NotReadyError, StorageError
from mcbn_broker.keystore.anchor import AnchorState
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.serve_lock import file_lock
from mcbn_broker.release.consent import INITIAL_REASON, ConsentState
from mcbn_broker.storage.database import Database
from mcbn_broker.storage.journal import Journal
from mcbn_broker.storage.migrate import migrate
from mcbn_broker.storage.schema import consent, meta
from mcbn_broker.storage.terms import TermsReader
from mcbn_broker.storage.transaction import (
    StoreTransaction,
    has_accepted,
    read_head,
    read_highest_epoch,
    why_older,
)
from mcbn_protocol.encoding import JsonObject
from mcbn_protocol.messages import INCARNATION_BYTES

_LOCK: Final = "store.lock"


@dataclass(frozen=True)
class Opening:
    """What opening did: why a new incarnation was begun, or None. Then consent is paused."""

    new_incarnation: str | None


@dataclass(frozen=True)
class _Life:
    incarnation: bytes
    head: ChainHead
    highest_epoch: int
    begun_because: str | None
    is_new: bool


def create_store(home: Home, *, now: int, random: Callable[[int], bytes]) -> tuple[Journal, Opening]:
    """Make the database and its anchor; consent starts paused.

    Raises:
        NotReadyError: There is one already.
        BrokerError: It cannot be written.
    """
    with file_lock(home.root / _LOCK):
        if home.database_path.exists() or home.anchor.read() is not None:
            raise NotReadyError(f"{home.root} has a database already")
        return _open(home, None, now=now, random=random, thorough=False)


def open_store(home: Home, *, now: int, random: Callable[[int], bytes], thorough: bool) -> tuple[Journal, Opening]:
    """Open the database; one that is older than its anchor, or gone, begins a new incarnation with consent paused.

    Raises:
        NotReadyError: There was never one.
        StorageError: Damaged, of a newer schema, or of another participant.
        KeystoreError: The anchor is unreadable.
    """
    with file_lock(home.root / _LOCK):
        anchored = home.anchor.read()  # before the database: a running `serve` moves the database first
        if anchored is None and not home.database_path.exists():
            raise NotReadyError(f"{home.root} has no database: run `mcbn-broker init` first")
        return _open(home, anchored, now=now, random=random, thorough=thorough)


def _open(
    home: Home, anchored: AnchorState | None, *, now: int, random: Callable[[int], bytes], thorough: bool
) -> tuple[Journal, Opening]:
    database = Database(home.database_path)
    try:
        if thorough:
            database.check_integrity()
        with database.write() as connection:
            migrate(connection)
            life = _live_on(connection, home, anchored, now=now, random=random)
        reached = AnchorState(life.incarnation, life.head.sequence, life.head.hash, life.highest_epoch)
        if life.is_new:
            home.anchor.begin(reached)
        else:  # after a crash between commit and anchor it lags behind
            home.anchor.advance(reached.incarnation, reached.sequence, reached.head, reached.epoch)
    except BaseException:
        database.close()
        raise
    return Journal(home, database, life.incarnation), Opening(life.begun_because)


def _live_on(
    connection: Connection,
    home: Home,
    anchored: AnchorState | None,
    *,
    now: int,
    random: Callable[[int], bytes],
) -> _Life:
    row = connection.execute(select(meta.c.incarnation, meta.c.participant)).one_or_none()
    if row is None:
        _fill(connection, home.identity.name, now)
        why = None if anchored is None else "the database was missing"
        return _begin(connection, home, anchored, why, now=now, random=random)
    if row.participant != home.identity.name:
        raise StorageError(
            f"the database belongs to {row.participant}, not {home.identity.name}: restore the right one"
        )
    why = _why_not_the_same(connection, row.incarnation, anchored)
    if why is None:
        reached = read_head(connection), read_highest_epoch(connection)
        return _Life(row.incarnation, *reached, begun_because=None, is_new=False)
    return _begin(connection, home, anchored, why, now=now, random=random)


def _fill(connection: Connection, participant: str, now: int) -> None:
    nobody = bytes(INCARNATION_BYTES)
    first = {"id": 1, "incarnation": nobody, "participant": participant, "revision": 0, "lowest_epoch": 0}
    connection.execute(insert(meta), first)
    paused = {"id": 1, "state": ConsentState.PAUSED.value, "reason": INITIAL_REASON, "since": now, "sequence": 1}
    connection.execute(insert(consent), paused)


def _why_not_the_same(connection: Connection, incarnation: bytes, anchored: AnchorState | None) -> str | None:
    if anchored is None:
        return "the anchor was missing"
    if anchored.incarnation != incarnation:
        return "the anchor belongs to another incarnation: database or anchor were restored"
    return why_older(connection, read_head(connection), anchored)


def _begin(
    connection: Connection,
    home: Home,
    anchored: AnchorState | None,
    why: str | None,
    *,
    now: int,
    random: Callable[[int], bytes],
) -> _Life:
    """Begin an incarnation: earlier challenges die with the old one, and only the participant ends the pause.

    An epoch that the anchor knows and the database does not has superseded all below it, perhaps to shut an image out.
    One that the database knows too says itself from when on it does. What is remembered is never lowered.
    """
    incarnation = random(INCARNATION_BYTES)
    transaction = StoreTransaction(connection, TermsReader(home).read)
    connection.execute(update(meta).values(incarnation=incarnation))
    if anchored is not None and not has_accepted(connection, anchored.epoch):
        lower = meta.c.lowest_epoch < anchored.epoch
        connection.execute(update(meta).where(lower).values(lowest_epoch=anchored.epoch))
    members: JsonObject = {"incarnation": incarnation.hex()}
    if why is None:
        transaction.append(AuditKind.INITIALISED, now, members)
    else:
        entry = transaction.append(AuditKind.INCARNATION, now, members | {"reason": why} | _known(anchored))
        paused = {"state": ConsentState.PAUSED.value, "reason": f"new incarnation: {why}", "since": now}
        connection.execute(update(consent).values(**paused, sequence=entry.sequence))
    transaction.change_terms()
    transaction.flush()
    highest_epoch = read_highest_epoch(connection)
    return _Life(incarnation, transaction.head, highest_epoch, begun_because=why, is_new=True)


def _known(anchored: AnchorState | None) -> JsonObject:
    if anchored is None:
        return {}
    return {"anchor_sequence": anchored.sequence, "anchor_head": anchored.head.hex()}
