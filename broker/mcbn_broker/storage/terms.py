"""Reads what may be released, and keeps it until it changes."""

from collections.abc import Sequence

from sqlalchemy import Connection, Row, select

from mcbn_broker.keystore.home import Home
from mcbn_broker.release.consent import Consent, ConsentState
from mcbn_broker.release.stores import Terms
from mcbn_broker.storage.schema import consent, manifests, meta, shares
from mcbn_broker.storage.stored import stored
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.roster import Roster
from mcbn_protocol.shares import Share, check_share

_META = select(meta.c.revision, meta.c.incarnation, meta.c.lowest_epoch)
_LIVE = (
    select(manifests.c.epoch, manifests.c.bundle, shares.c.sealed)
    .join(shares, shares.c.epoch == manifests.c.epoch)
    .where(manifests.c.retired_at.is_(None))
    .order_by(manifests.c.epoch)
)


@stored("consent")
def read_consent(connection: Connection) -> Consent:
    """Return the participant's decision."""
    row = connection.execute(select(consent.c.state, consent.c.reason, consent.c.since, consent.c.sequence)).one()
    return Consent(ConsentState(row.state), row.reason, row.since, row.sequence)


class TermsReader:
    """Verifies manifests and unseals shares once for each change; the shares live in memory until they are retired."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._known: Terms | None = None

    def read(self, connection: Connection) -> Terms:
        """Return what may be released in the state that `connection` sees.

        Raises:
            StorageError: A stored manifest or share is not what was accepted.
            BrokerError: A share cannot be unsealed.
        """
        row = connection.execute(_META).one()
        known = self.known(row.revision, row.incarnation)
        if known is None:
            known = self._known = self._read_anew(connection, row)
        return known

    def known(self, revision: int, incarnation: bytes) -> Terms | None:
        """Return the terms of this revision if they were read before."""
        known = self._known
        same = known is not None and (known.revision, known.incarnation) == (revision, incarnation)
        return known if same else None

    def _read_anew(self, connection: Connection, row: Row[int, bytes, int]) -> Terms:
        live = connection.execute(_LIVE.where(manifests.c.epoch >= row.lowest_epoch)).all()
        agreed, held = self._load(live) if live else ((), {})
        return Terms(row.revision, row.incarnation, read_consent(connection), agreed, held)

    @stored("roster, manifest or share")
    def _load(self, live: Sequence[Row[int, bytes, bytes]]) -> tuple[tuple[AgreedManifest, ...], dict[int, Share]]:
        roster = self._home.roster()
        agreed = tuple(AgreedManifest.parse(row.bundle, roster) for row in live)
        held = {
            row.epoch: self._unseal(row.sealed, one, roster)
            for row, one in zip(live, agreed, strict=True)
            if self._home.epoch_keys.has(row.epoch)
        }
        return agreed, held

    def _unseal(self, sealed: bytes, agreed: AgreedManifest, roster: Roster) -> Share:
        name, epoch = self._home.identity.name, agreed.manifest.epoch
        known = None if self._known is None else self._known.shares.get(epoch)
        share = known or self._home.unseal_share(sealed, roster=roster, epoch=epoch)
        check_share(roster.network, name, epoch, share, agreed.manifest.commitments[name])
        return share
