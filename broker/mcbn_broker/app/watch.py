"""Looks at what the command line may have changed: the manifests in force, consent, and so which key sets to keep."""

import asyncio
from collections.abc import Mapping
from typing import Final

from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.key_sets import KeySets
from mcbn_broker.errors import BrokerError
from mcbn_broker.release.consent import ConsentState
from mcbn_broker.release.manifests import ManifestState, expiry
from mcbn_broker.release.service import Readiness, ReleaseService
from mcbn_broker.storage.store import Store
from mcbn_broker.telemetry.logs import logger
from mcbn_protocol.manifest import Manifest

INTERVAL_SECONDS: Final = 2.0


class Watch:
    """The last known state of a running broker; `look` renews it, `parts` says what is not ready."""

    def __init__(self, service: ReleaseService, store: Store, key_sets: KeySets) -> None:
        self._service = service
        self._store = store
        self._key_sets = key_sets
        self._readiness: Readiness | None = None
        self._issuers: frozenset[str] = frozenset()

    async def look_forever(self) -> None:
        """Look every two seconds."""
        while True:
            await self.look()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def look(self) -> None:
        """Read the state; on another epoch, read whose key sets its manifest needs and say its dangers aloud."""
        before, now = self._readiness, await self._service.readiness()
        if before is None or before.epoch != now.epoch:
            try:
                manifests = await asyncio.to_thread(self._manifests)
            except BrokerError as error:  # the store failed between the two reads, or holds something unreadable
                logger().error("store_unreadable", detail=str(error))
                self._readiness = Readiness(store=False, epoch=None, consent=None)
                return
            evidence = [one for manifest in manifests for terms in manifest.roles.values() for one in terms.evidence]
            self._issuers = TrustAnchors.of(evidence).issuers
            self._key_sets.follow(self._issuers)
            for manifest in manifests:
                _warn(manifest)
        self._readiness = now

    def _manifests(self) -> list[Manifest]:
        return [one.agreed.manifest for one in self._store.manifests() if not one.retired]

    async def parts(self) -> Mapping[str, str | None]:
        """Return what must be ready, by name: None, or what is missing and what to do."""
        await self.look()
        readiness = self._readiness
        fresh = {state.issuer for state in self._key_sets.states() if state.usable}
        stale = ", ".join(sorted(self._issuers - fresh))
        return {
            "store": None if readiness and readiness.store else "the database cannot be read: see the log",
            "manifest": None if readiness and readiness.epoch else await asyncio.to_thread(self._why_no_manifest),
            "key_set": f"no usable key set of {stale} yet: see the log" if stale else None,
        }

    def _why_no_manifest(self) -> str:
        try:
            status = self._store.status()
        except BrokerError:
            return "the accepted manifests cannot be read: see the log"
        newest = max(status.manifests, key=lambda one: one.epoch, default=None)
        if newest is not None and newest.state is ManifestState.EXPIRED:
            return expiry(newest.epoch, newest.valid_until, following=status.next_share_epoch)
        return "no manifest is in force: run manifest accept"

    def consent(self) -> float:
        """1 if consent was allowed when last looked at, else 0."""
        return float(self._readiness is not None and self._readiness.consent is ConsentState.ALLOWED)

    def key_set_age(self) -> float:
        """The age in seconds of the oldest key set in use, or NaN without one."""
        ages = [age for issuer in self._issuers if (age := self._key_sets.age(issuer)) is not None]
        return max(ages, default=float("nan"))


def _warn(manifest: Manifest) -> None:
    if manifest.simulated:
        logger().warning(
            "SIMULATED ATTESTATION",
            epoch=manifest.epoch,
            detail="this manifest names a simulated issuer: no hardware protects the shares released under it",
        )
    if manifest.insecure_terms:
        logger().warning("INSECURE TERMS", epoch=manifest.epoch, terms=list(manifest.insecure_terms))
