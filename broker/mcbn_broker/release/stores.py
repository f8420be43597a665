"""What the release service needs from a store."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from mcbn_broker.audit.chain import AuditKind, ChainEntry, ChainHead
from mcbn_broker.release.challenges import IssuedChallenge
from mcbn_broker.release.consent import Consent
from mcbn_broker.release.leases import Lease
from mcbn_protocol.encoding import JsonObject
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.manifest import AgreedManifest, Manifest
from mcbn_protocol.shares import Share

T = TypeVar("T")


@dataclass(frozen=True)
class Terms:
    """What may be released at present, read from one state of the store.

    Attributes:
        revision: Rises with every change of the rest.
        incarnation: 16 bytes, random for each life of the database.
        consent: The participant's decision.
        agreed: The accepted manifests that were not retired, in ascending order of their epochs.
        shares: Our share of each of these epochs, as far as its epoch key exists.
    """

    revision: int
    incarnation: bytes
    consent: Consent
    agreed: tuple[AgreedManifest, ...]
    shares: Mapping[int, Share] = field(repr=False)

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """The manifests alone."""
        return tuple(one.manifest for one in self.agreed)

    def find(self, manifest_hash: ManifestHash) -> AgreedManifest | None:
        """Return the manifest with this hash, if it is among those that may serve."""
        return next((one for one in self.agreed if one.hash == manifest_hash), None)


class Transaction(Protocol):
    """One serialised transaction: nothing that it reads changes before it is durable."""

    def terms(self) -> Terms:
        """Return what may be released at present."""
        ...

    def spend(self, challenge: IssuedChallenge) -> bool:
        """Note that a challenge was used. False: it was used before."""
        ...

    def other_instances(self, role: Role, instance_id: str, now: int) -> int:
        """Count the VMs, other than this one, that hold a lease of this role beyond `now`."""
        ...

    def grant(self, lease: Lease) -> None:
        """Note a lease; a VM's longer lease stays."""
        ...

    def append(self, kind: AuditKind, time: int, members: JsonObject) -> ChainEntry:
        """Append a record to the audit."""
        ...


class Ledger(Protocol):
    """Runs transactions one after the other, several of them in one durable commit."""

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction and return its result once that is durable. `work` may be run again.

        Raises:
            BrokerError: Nothing was written; a later try may succeed.
        """
        ...

    async def aclose(self) -> None:
        """Finish what was begun."""
        ...


class ReleaseStore(Protocol):
    """Reads outside of a transaction, each quick enough for an event loop."""

    def terms(self) -> Terms:
        """Return what may be released at present.

        Raises:
            BrokerError: It cannot be read.
        """
        ...

    def chain_head(self) -> ChainHead:
        """Return the audit's end.

        Raises:
            BrokerError: It cannot be read.
        """
        ...

    def tidy(self) -> None:
        """Destroy the keys of epochs that will never serve again, forget what expired; not quick: call it in a thread.

        Raises:
            BrokerError: It cannot be done now.
        """
        ...
