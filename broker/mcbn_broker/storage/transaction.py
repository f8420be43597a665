"""One serialised transaction on the store: the audit's end, single use, leases."""

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, bindparam, case, func, insert, select, update

from mcbn_broker.audit.chain import EMPTY, AuditKind, ChainEntry, ChainHead, next_entry
from mcbn_broker.keystore.anchor import AnchorState
from mcbn_broker.release.challenges import IssuedChallenge
from mcbn_broker.release.leases import Lease
from mcbn_broker.release.stores import Terms
from mcbn_broker.storage.prepared import Prepared
from mcbn_broker.storage.schema import audit, challenges_used, leases, manifests, meta
from mcbn_protocol.encoding import JsonObject
from mcbn_protocol.identifiers import Role

_HEAD: Final = select(audit.c.sequence, audit.c.hash).order_by(audit.c.sequence.desc()).limit(1)
_HASH: Final = Prepared(select(audit.c.hash).where(audit.c.sequence == bindparam("sequence")))
_HIGHEST_EPOCH: Final = Prepared(select(meta.c.lowest_epoch, select(func.max(manifests.c.epoch)).scalar_subquery()))
_USED: Final = Prepared(select(challenges_used.c.expires_at).where(challenges_used.c.hash == bindparam("hash")))
_OTHERS: Final = Prepared(
    select(func.count())
    .select_from(leases)
    .where(leases.c.role == bindparam("role"))
    .where(leases.c.instance_id != bindparam("instance_id"))
    .where(leases.c.expires_at > bindparam("now"))
)
_MINE: Final = (leases.c.role == bindparam("its_role")) & (leases.c.instance_id == bindparam("its_instance_id"))
_UNTIL: Final = case((leases.c.expires_at > bindparam("until"), leases.c.expires_at), else_=bindparam("until"))
_EXTEND: Final = Prepared(update(leases).where(_MINE).values(expires_at=_UNTIL))
_LEASE: Final = Prepared(insert(leases))
_SPEND: Final = Prepared(insert(challenges_used))
_RECORD: Final = Prepared(insert(audit))


def read_head(connection: Connection) -> ChainHead:
    """Return the audit's end as this transaction sees it."""
    row = connection.execute(_HEAD).one_or_none()
    return EMPTY if row is None else ChainHead(row.sequence, row.hash)


def read_highest_epoch(connection: Connection) -> int:
    """Return the highest epoch that was ever accepted, as far as this transaction sees; 0 before the first."""
    ((remembered, accepted),) = _HIGHEST_EPOCH.fetch(connection)
    return max(int(remembered), int(accepted or 0))


def has_accepted(connection: Connection, epoch: int) -> bool:
    """Whether the database has this epoch's manifest, retired or not."""
    return connection.execute(select(manifests.c.epoch).where(manifests.c.epoch == epoch)).one_or_none() is not None


def why_older(connection: Connection, head: ChainHead, anchored: AnchorState) -> str | None:
    """Return why a database is not the one that its anchor knows, or None if it is.

    Args:
        connection: The database, in a transaction.
        head: Its audit's end.
        anchored: The anchor, which may lag behind the database, never run ahead of it.
    """
    if head.sequence < anchored.sequence:
        return f"the database is an older copy: it ends at record {head.sequence}, the anchor at {anchored.sequence}"
    if head == ChainHead(anchored.sequence, anchored.head):
        return None
    if _HASH.fetch(connection, sequence=anchored.sequence) != [(anchored.head,)]:
        return f"the database's audit differs from the anchor at record {anchored.sequence}"
    return None


class StoreTransaction:
    """What release and command line do inside of a write transaction.

    Audit records and used challenges are written together, by `flush`, which the owner calls before the commit.
    """

    def __init__(self, connection: Connection, read_terms: Callable[[Connection], Terms]) -> None:
        self.connection = connection
        self.head = read_head(connection)
        self.highest_epoch = read_highest_epoch(connection)
        self._read_terms = read_terms
        self._terms: Terms | None = None
        self._records: list[dict[str, Any]] = []
        self._spent: dict[bytes, int] = {}

    def terms(self) -> Terms:
        """Return what may be released; nobody else can change it before this transaction ends."""
        if self._terms is None:
            self._terms = self._read_terms(self.connection)
        return self._terms

    def spend(self, challenge: IssuedChallenge) -> bool:
        """Note that a challenge was used. False: it was used before."""
        if challenge.hash in self._spent or _USED.fetch(self.connection, hash=challenge.hash):
            return False
        self._spent[challenge.hash] = challenge.expires_at
        return True

    def other_instances(self, role: Role, instance_id: str, now: int) -> int:
        """Count the VMs, other than this one, that hold a lease of this role beyond `now`."""
        ((count,),) = _OTHERS.fetch(self.connection, role=role.value, instance_id=instance_id, now=now)
        return int(count)

    def grant(self, lease: Lease) -> None:
        """Note a lease; a VM's longer lease stays."""
        role, instance_id, until = lease.role.value, lease.instance_id, lease.expires_at
        if not _EXTEND.change(self.connection, its_role=role, its_instance_id=instance_id, until=until):
            _LEASE.change(self.connection, role=role, instance_id=instance_id, expires_at=until)

    def append(self, kind: AuditKind, time: int, members: JsonObject) -> ChainEntry:
        """Append a record to the audit."""
        entry = next_entry(self.head, time=time, kind=kind, members=members)
        self._records.append({"sequence": entry.sequence, "record": entry.record, "hash": entry.hash})
        self.head = ChainHead(entry.sequence, entry.hash)
        return entry

    def change_terms(self) -> None:
        """Note that what may be released was changed, so that every reader reads it anew."""
        self.connection.execute(update(meta).values(revision=meta.c.revision + 1))

    def flush(self) -> None:
        """Write what was gathered since the last time; what goes wrong here ends the transaction."""
        spent, self._spent = self._spent, {}
        records, self._records = self._records, []
        used = [{"hash": value, "expires_at": expires_at} for value, expires_at in spent.items()]
        _SPEND.change_all(self.connection, used)
        _RECORD.change_all(self.connection, records)
