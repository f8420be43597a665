"""Shares and manifests: making a share, accepting a manifest, retiring an epoch."""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from mcbn_broker.audit.chain import AuditKind
from mcbn_broker.errors import CeremonyError
from mcbn_broker.release.manifests import AcceptedManifest, ManifestState, check_acceptable, manifest_state
from mcbn_broker.storage.journal import Journal
from mcbn_broker.storage.schema import manifests, meta, shares
from mcbn_broker.storage.stored import stored
from mcbn_broker.storage.transaction import StoreTransaction, read_highest_epoch
from mcbn_protocol.limits import SHARE_BYTES
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.shares import CommitmentCard, Share, commitment


@dataclass(frozen=True)
class ShareRow:
    """A share made here: its epoch, its commitment (32 bytes), and whether its epoch key still exists."""

    epoch: int
    commitment: bytes
    held: bool


class Epochs:
    """The epochs of one store."""

    def __init__(self, journal: Journal, clock: Callable[[], int], random: Callable[[int], bytes]) -> None:
        self._journal = journal
        self._home = journal.home
        self._clock = clock
        self._random = random

    def shares(self, connection: Connection) -> tuple[ShareRow, ...]:
        """Return the shares made here, in ascending order of their epochs."""
        rows = connection.execute(select(shares.c.epoch, shares.c.commitment).order_by(shares.c.epoch))
        return tuple(ShareRow(row.epoch, row.commitment, self._home.epoch_keys.has(row.epoch)) for row in rows)

    @stored("roster or manifest")
    def accepted(self, connection: Connection) -> tuple[AcceptedManifest, ...]:
        """Return the accepted manifests, in ascending order; their signatures are verified again.

        Raises:
            StorageError: A stored one was altered.
        """
        columns = select(manifests.c.bundle, manifests.c.accepted_at, manifests.c.retired_at)
        rows = connection.execute(columns.order_by(manifests.c.epoch)).all()
        roster = self._home.roster() if rows else None
        return tuple(
            AcceptedManifest(AgreedManifest.parse(row.bundle, roster), row.accepted_at, row.retired_at is not None)
            for row in rows
            if roster is not None
        )

    def next_epoch(self, connection: Connection) -> int:
        """Return the epoch that a share made now would be for: one above every epoch ever accepted."""
        accepted = self.accepted(connection)
        highest = accepted[-1].agreed.manifest.epoch if accepted else 0
        return max(highest, _lowest_epoch(connection)) + 1

    def new_share(self, epoch: int | None) -> CommitmentCard:
        """Make a share, or return the commitment of the one that was made for an epoch not yet accepted.

        Raises:
            CeremonyError: The epoch is not one that can follow.
            BrokerError: No roster; no key-encryption key; or it cannot be stored.
        """
        with self._journal.transaction() as transaction:
            wanted = self._check_epoch(transaction.connection, epoch)
            known = next((one for one in self.shares(transaction.connection) if one.epoch == wanted), None)
            value = known.commitment if known is not None and known.held else self._make(transaction, wanted)
        return CommitmentCard(self._home.identity.name, wanted, value)

    def _check_epoch(self, connection: Connection, epoch: int | None) -> int:
        following = self.next_epoch(connection)
        accepted = self.accepted(connection)
        after_accepted = accepted[-1].agreed.manifest.epoch + 1 if accepted else 1
        lowest = max(after_accepted, _lowest_epoch(connection))
        if epoch is not None and epoch < lowest:
            raise CeremonyError(f"no share can be made for epoch {epoch} any more: the next one is {following}")
        return following if epoch is None else epoch

    def _make(self, transaction: StoreTransaction, epoch: int) -> bytes:
        roster, name, now = self._home.roster(), self._home.identity.name, self._clock()
        share = Share(self._random(SHARE_BYTES))
        value = commitment(roster.network, name, epoch, share)
        sealed = self._home.seal_share(share, roster=roster, epoch=epoch)
        transaction.connection.execute(delete(shares).where(shares.c.epoch == epoch))
        row = {"epoch": epoch, "commitment": value, "sealed": sealed, "made_at": now}
        transaction.connection.execute(insert(shares), row)
        transaction.append(AuditKind.SHARE_MADE, now, {"epoch": epoch, "commitment": value.hex()})
        return value

    def accept(self, bundle: bytes) -> AgreedManifest:
        """Accept a manifest; doing it again with the same one changes nothing.

        Raises:
            CeremonyError: It may not follow, or is not about our share.
            ProtocolError: It is no manifest, or not signed by everyone.
            BrokerError: It cannot be stored.
        """
        candidate = AgreedManifest.parse(bundle, self._home.roster())
        with self._journal.transaction() as transaction:
            accepted = self.accepted(transaction.connection)
            if candidate.hash not in {one.agreed.hash for one in accepted}:
                self._check(candidate, accepted, transaction.connection)
                self._store(candidate, transaction)
        return candidate

    def _check(self, candidate: AgreedManifest, accepted: tuple[AcceptedManifest, ...], connection: Connection) -> None:
        held = {one.epoch: one.commitment for one in self.shares(connection) if one.held}
        check_acceptable(
            candidate,
            accepted,
            lowest_epoch=_lowest_epoch(connection),
            participant=self._home.identity.name,
            own_commitment=held.get(candidate.manifest.epoch),
            now=self._clock(),
        )

    def _store(self, candidate: AgreedManifest, transaction: StoreTransaction) -> None:
        now, epoch = self._clock(), candidate.manifest.epoch
        row = {"epoch": epoch, "hash": candidate.hash, "bundle": candidate.bundle, "accepted_at": now}
        transaction.connection.execute(insert(manifests), row)
        transaction.highest_epoch = epoch
        transaction.change_terms()
        transaction.append(AuditKind.MANIFEST_ACCEPTED, now, {"epoch": epoch, "manifest_hash": candidate.hash.hex()})

    def retire_superseded(self) -> tuple[int, ...]:
        """Retire every epoch that a later one has replaced for good; destroy its key, and those of abandoned drafts.

        Whatever lies below the highest accepted epoch serves now or never will.

        Raises:
            BrokerError: It cannot be recorded, or a key file cannot be destroyed; a later try does the rest.
        """
        with self._journal.read() as connection:
            accepted, lowest = self.accepted(connection), _lowest_epoch(connection)
            highest = read_highest_epoch(connection)
        epochs = self._superseded(accepted)
        if epochs:
            self._retire(epochs)
        live = {one.agreed.manifest.epoch for one in accepted if not one.retired} - set(epochs)
        for epoch in self._home.epoch_keys.epochs():
            if epoch < lowest or (epoch < highest and epoch not in live):
                self._home.epoch_keys.destroy(epoch)
        return epochs

    def _superseded(self, accepted: tuple[AcceptedManifest, ...]) -> tuple[int, ...]:
        now, live = self._clock(), [one.agreed.manifest for one in accepted if not one.retired]
        return tuple(one.epoch for one in live if manifest_state(one, live, now) is ManifestState.SUPERSEDED)

    def _retire(self, epochs: tuple[int, ...]) -> None:
        now = self._clock()
        with self._journal.transaction() as transaction:
            for epoch in epochs:
                row = update(manifests).where(manifests.c.epoch == epoch).values(retired_at=now)
                transaction.connection.execute(row)
                transaction.append(AuditKind.EPOCH_RETIRED, now, {"epoch": epoch})
            transaction.change_terms()


def _lowest_epoch(connection: Connection) -> int:
    return int(connection.execute(select(meta.c.lowest_epoch)).scalar_one())
