"""The store as command line and service see it."""

import contextlib
import os
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Connection, delete, select, update

from mcbn_broker.audit.chain import AuditEntry, AuditKind, ChainEntry, ChainHead
from mcbn_broker.audit.heads import parse_signed_head
from mcbn_broker.audit.verification import read_entry, verify_chain
from mcbn_broker.errors import BrokerError, StorageError, UsageError
from mcbn_broker.keystore.home import Home
from mcbn_broker.release.consent import Consent, ConsentState
from mcbn_broker.release.manifests import AcceptedManifest
from mcbn_broker.release.stores import Terms
from mcbn_broker.storage.epochs import Epochs, ShareRow
from mcbn_broker.storage.journal import Journal
from mcbn_broker.storage.opening import Opening, create_store, open_store
from mcbn_broker.storage.reserve import Reserve
from mcbn_broker.storage.schema import audit, challenges_used, consent, leases
from mcbn_broker.storage.status import StoreStatus, read_status
from mcbn_broker.storage.terms import read_consent
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.messages import AuditHead
from mcbn_protocol.shares import CommitmentCard

FORGET_AFTER_SECONDS: Final = 3600
"""How long a used challenge outlives its expiry, so that a clock set back does not make it usable again."""

REASON_CHARS: Final = 500


class Store:
    """One participant's store. Several processes may have it open; each call is a transaction of its own."""

    def __init__(
        self, journal: Journal, opened: Opening, *, clock: Callable[[], int], random: Callable[[int], bytes]
    ) -> None:
        self.home = journal.home
        self.opened = opened
        self.journal = journal
        self._clock = clock
        self._epochs = Epochs(journal, clock, random)
        self._reserve = Reserve(journal.home.reserve_path)
        self._reserve.keep()

    @classmethod
    def initialise(cls, home: Home, *, clock: Callable[[], int], random: Callable[[int], bytes] = os.urandom) -> Self:
        """Make the database of a new data directory; consent starts paused.

        Raises:
            NotReadyError: There is one already.
            BrokerError: It cannot be written.
        """
        return cls(*create_store(home, now=clock(), random=random), clock=clock, random=random)

    @classmethod
    def open(
        cls,
        home: Home,
        *,
        clock: Callable[[], int],
        random: Callable[[int], bytes] = os.urandom,
        thorough: bool = False,
    ) -> Self:
        """Open the database; `opened` says whether a new incarnation had to be begun.

        Args:
            home: The data directory.
            clock: Unix seconds.
            random: Gives that many random bytes.
            thorough: Read the whole file for damage first. A large audit makes this slow, and a pause must be quick.

        Raises:
            NotReadyError: There was never one.
            StorageError: Damaged, of a newer schema, or of another participant.
            KeystoreError: The anchor is unreadable.
        """
        return cls(*open_store(home, now=clock(), random=random, thorough=thorough), clock=clock, random=random)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self.journal.close()

    def new_share(self, epoch: int | None = None) -> CommitmentCard:
        """Make our share of the next epoch (or of `epoch`, where nothing was accepted yet) and return its commitment.

        Asked again before that epoch's manifest was accepted, it returns the same commitment.

        Raises:
            CeremonyError: The epoch is not one that can follow.
            BrokerError: No roster; no key-encryption key; or it cannot be stored.
        """
        return self._epochs.new_share(epoch)

    def shares(self) -> tuple[ShareRow, ...]:
        """Return the shares made here, in ascending order of their epochs."""
        with self.journal.read() as connection:
            return self._epochs.shares(connection)

    def accept_manifest(self, bundle: bytes) -> AgreedManifest:
        """Accept a manifest that every participant signed, and retire what it supersedes.

        Raises:
            CeremonyError: It may not follow the accepted one, or is not about our share.
            ProtocolError: It is no manifest, or not signed by everyone.
            BrokerError: It cannot be stored.
        """
        agreed = self._epochs.accept(bundle)
        with contextlib.suppress(BrokerError):  # accepted is accepted; `serve` retires what is left
            self._epochs.retire_superseded()
        return agreed

    def manifests(self) -> tuple[AcceptedManifest, ...]:
        """Return the accepted manifests, in ascending order of their epochs."""
        with self.journal.read() as connection:
            return self._epochs.accepted(connection)

    def retire_superseded(self) -> tuple[int, ...]:
        """Destroy the keys of epochs that will never serve again; return these epochs.

        Raises:
            BrokerError: A later try does the rest.
        """
        return self._epochs.retire_superseded()

    def consent(self) -> Consent:
        """Return the participant's present decision."""
        with self.journal.read() as connection:
            return read_consent(connection)

    def allow(self, reason: str = "") -> Consent:
        """Allow releases from now on.

        Raises:
            UsageError: The reason is longer than 500 characters.
            BrokerError: It cannot be recorded, so it is not in force.
        """
        return self._decide(ConsentState.ALLOWED, AuditKind.CONSENT_ALLOWED, reason)

    def pause(self, reason: str = "") -> Consent:
        """Pause: on return, no release ordered after it will happen. Works on a full disk, once, from a reserve.

        Raises:
            UsageError: The reason is longer than 500 characters.
            BrokerError: It cannot be recorded, so it is not in force.
        """
        try:
            return self._decide(ConsentState.PAUSED, AuditKind.CONSENT_PAUSED, reason)
        except StorageError:
            if not self._reserve.give_up():
                raise
            return self._decide(ConsentState.PAUSED, AuditKind.CONSENT_PAUSED, reason)

    def _decide(self, state: ConsentState, kind: AuditKind, reason: str) -> Consent:
        if len(reason) > REASON_CHARS:
            raise UsageError(f"the reason has {len(reason)} characters: shorten it to {REASON_CHARS}")
        now = self._clock()
        with self.journal.transaction() as transaction:
            sequence = transaction.append(kind, now, {"reason": reason}).sequence
            row = update(consent).values(state=state.value, reason=reason, since=now, sequence=sequence)
            transaction.connection.execute(row)
            transaction.change_terms()
        return Consent(state, reason, now, sequence)

    def audit_tail(self, count: int) -> tuple[AuditEntry, ...]:
        """Return the last `count` records, oldest first.

        Raises:
            AuditError: One of them is unreadable.
        """
        newest = select(audit.c.sequence, audit.c.record, audit.c.hash).order_by(audit.c.sequence.desc()).limit(count)
        with self.journal.read() as connection:
            rows = connection.execute(newest).all()
        return tuple(read_entry(ChainEntry(row.sequence, row.record, row.hash)) for row in reversed(rows))

    def verify_audit(self, head: bytes | None = None) -> ChainHead:
        """Verify the whole audit against the anchor, and against a signed release or audit head if one is given.

        Raises:
            AuditError: It names the first bad record.
            ProtocolError: `head` is neither of the two, or not signed by our release key.
        """
        known = []
        if head is not None:
            known.append(parse_signed_head(head, participant=self.home.identity.name, roster=self.home.roster()))
        anchored = self.home.anchor.read()  # before the database, which a running `serve` moves first
        if anchored is not None:
            known.append(ChainHead(anchored.sequence, anchored.head))
        rows = select(audit.c.sequence, audit.c.record, audit.c.hash).order_by(audit.c.sequence)
        with self.journal.read() as connection:
            stream = connection.execution_options(yield_per=500).execute(rows)
            return verify_chain((ChainEntry(row.sequence, row.record, row.hash) for row in stream), expected=known)

    def audit_head(self) -> AuditHead:
        """Return the audit's end, to be signed.

        Raises:
            NotReadyError: No roster yet.
        """
        roster, head = self.home.roster(), self.chain_head()
        name = self.home.identity.name
        return AuditHead(roster.hash, name, self.journal.incarnation, head.sequence, head.hash, self._clock())

    def status(self) -> StoreStatus:
        """Return what `status` shows."""
        with self.journal.read() as connection:
            return read_status(connection, self._epochs, self.journal.incarnation, self._clock())

    def terms(self) -> Terms:
        """Return what may be released at present; needs the key-encryption key.

        Raises:
            BrokerError: It cannot be read.
        """
        return self.journal.terms()

    def chain_head(self) -> ChainHead:
        """Return the audit's end."""
        return self.journal.head()

    def tidy(self) -> None:
        """Retire superseded epochs; forget leases that ended and used challenges long expired.

        Raises:
            BrokerError: A later try does the rest.
        """
        self._epochs.retire_superseded()
        with self.journal.transaction() as transaction:
            self._forget(transaction.connection)

    def _forget(self, connection: Connection) -> None:
        now = self._clock()
        connection.execute(delete(leases).where(leases.c.expires_at <= now))
        connection.execute(delete(challenges_used).where(challenges_used.c.expires_at < now - FORGET_AFTER_SECONDS))
