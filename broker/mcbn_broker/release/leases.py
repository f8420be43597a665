"""Leases: how long a workload may hold a share, and how many VMs may do so at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from mcbn_broker.release.manifests import serves_until
from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import Manifest


@dataclass(frozen=True)
class Lease:
    """One VM's permission to hold the share, until `expires_at` (Unix seconds)."""

    role: Role
    instance_id: str
    expires_at: int


def lease_seconds(manifest: Manifest, accepted: Sequence[Manifest], now: int) -> int:
    """Return the manifest's lease, cut where the manifest stops serving."""
    return min(manifest.lease_seconds, serves_until(manifest, accepted) - now)


def room_for(manifest: Manifest, role: Role, other_instances: int) -> bool:
    """Whether one VM more may hold a lease, beside `other_instances` different ones that do."""
    return other_instances < manifest.roles[role].instances
