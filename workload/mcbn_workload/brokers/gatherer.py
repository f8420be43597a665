"""The brokers as the keys see them: where the manifest comes from, and the shares."""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence

from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.signatures import Envelope
from mcbn_workload.attester import Attester
from mcbn_workload.brokers.addresses import Connector
from mcbn_workload.brokers.client import Terms
from mcbn_workload.brokers.heads import collect_heads
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.brokers.manifest import ManifestFinder
from mcbn_workload.brokers.quorum import Gathering, Patience, Progress, Quorum
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.settings import Settings


class Gatherer:
    """All brokers of one network, asked on behalf of one workload."""

    def __init__(
        self,
        settings: Settings,
        attester: Attester,
        *,
        clock: Clock,
        patience: Patience,
        connector: Connector,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Prepare; nobody is asked yet.

        Args:
            settings: Role, roster, deadlines and the operator's addresses.
            attester: Gives the tokens.
            clock: The two clocks.
            patience: Deadline and pauses of a gathering.
            connector: Makes the HTTP clients.
            random: Gives n random bytes, for recipient keys.
        """
        self._settings = settings
        self._attester = attester
        self._clock = clock
        self._patience = patience
        self._connector = connector
        self._random = random
        self._heads: dict[str, Envelope] = {}
        self._finder = ManifestFinder(
            settings.roster,
            connector,
            source=settings.operator.manifest,
            overrides=settings.operator.brokers,
            request_seconds=settings.deadlines.request_seconds,
        )

    async def find(self, known: Sequence[AgreedManifest]) -> list[AgreedManifest]:
        """Return the manifests of now; see `ManifestFinder.find`. With one known, the audit heads are collected too."""
        if not known:
            return await self._finder.find(known)
        collecting = asyncio.create_task(self._collect_heads(known[0]))
        try:
            return await self._finder.find(known)
        finally:
            await collecting

    async def gather(self, agreed: AgreedManifest, participants: Iterable[str], progress: Progress) -> Gathering:
        """Ask these participants for their shares; see `Quorum.gather`.

        Raises:
            ConfigurationError: The manifest does not allow this image's channel.
        """
        self._check_channel(agreed)
        terms = Terms(
            roster=self._settings.roster,
            agreed=agreed,
            role=self._settings.role,
            attester=self._attester,
            clock=self._clock,
            random=self._random,
            request_seconds=self._settings.deadlines.request_seconds,
            heads=self._heads,
        )
        quorum = Quorum(terms, self._connector, self._patience, self._settings.operator.brokers)
        return await quorum.gather(participants, progress)

    def _check_channel(self, agreed: AgreedManifest) -> None:
        allowed = agreed.manifest.channels
        if self._settings.channel not in allowed:
            raise ConfigurationError(
                f"this image's channel is {self._settings.channel}, but the manifest of epoch {agreed.manifest.epoch} "
                f"allows {', '.join(allowed)}: agree on a manifest or an image that fits the other"
            )

    async def _collect_heads(self, known: AgreedManifest) -> None:
        self._heads |= await collect_heads(
            known,
            self._settings.roster,
            self._connector,
            self._settings.operator.brokers,
            self._settings.deadlines.request_seconds,
        )
