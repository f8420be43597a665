"""What `status` shows of the store."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from mcbn_broker.audit.chain import ChainHead
from mcbn_broker.release.consent import Consent
from mcbn_broker.release.manifests import ManifestState, manifest_state
from mcbn_broker.storage.epochs import Epochs
from mcbn_broker.storage.migrate import current_schema
from mcbn_broker.storage.schema import leases
from mcbn_broker.storage.terms import read_consent
from mcbn_broker.storage.transaction import read_head
from mcbn_protocol.identifiers import ManifestHash, Role


@dataclass(frozen=True)
class ManifestStatus:
    """One accepted manifest: how it stands, and what to know before trusting it. Times are Unix seconds."""

    epoch: int
    hash: ManifestHash
    valid_from: int
    valid_until: int
    state: ManifestState
    simulated: bool
    insecure_terms: tuple[str, ...]


@dataclass(frozen=True)
class StoreStatus:
    """The state of the store.

    Attributes:
        incarnation: 16 bytes.
        schema: The database's schema.
        consent: The participant's decision.
        manifests: All accepted, in ascending order of their epochs.
        next_share_epoch: The epoch that `share new` would make a share for.
        audit: The audit's end.
        leases: How many VMs hold a lease of each role.
    """

    incarnation: bytes
    schema: str
    consent: Consent
    manifests: tuple[ManifestStatus, ...]
    next_share_epoch: int
    audit: ChainHead
    leases: Mapping[Role, int]


def read_status(connection: Connection, epochs: Epochs, incarnation: bytes, now: int) -> StoreStatus:
    """Read the state at `now` (Unix seconds)."""
    return StoreStatus(
        incarnation=incarnation,
        schema=current_schema(connection) or "none",
        consent=read_consent(connection),
        manifests=_manifests(connection, epochs, now),
        next_share_epoch=epochs.next_epoch(connection),
        audit=read_head(connection),
        leases={role: _live(connection, role, now) for role in Role},
    )


def _manifests(connection: Connection, epochs: Epochs, now: int) -> tuple[ManifestStatus, ...]:
    agreed = [one.agreed for one in epochs.accepted(connection)]
    everything = [one.manifest for one in agreed]
    return tuple(
        ManifestStatus(
            epoch=one.manifest.epoch,
            hash=one.hash,
            valid_from=one.manifest.valid_from,
            valid_until=one.manifest.valid_until,
            state=manifest_state(one.manifest, everything, now),
            simulated=one.manifest.simulated,
            insecure_terms=one.manifest.insecure_terms,
        )
        for one in agreed
    )


def _live(connection: Connection, role: Role, now: int) -> int:
    live = select(func.count()).select_from(leases).where(leases.c.role == role.value, leases.c.expires_at > now)
    return int(connection.execute(live).scalar_one())
