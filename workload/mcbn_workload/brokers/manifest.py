"""Finds the manifest: from any broker, a URL or a file. Its signatures decide, not where it came from."""

import asyncio
import logging
import os
import stat
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Final

from mcbn_protocol import limits
from mcbn_protocol.errors import ProtocolError
from mcbn_protocol.manifest import AgreedManifest, BrokerAddress, Manifest
from mcbn_protocol.roster import Roster
from mcbn_workload.brokers.addresses import Connector
from mcbn_workload.brokers.errors import ManifestConflictError, ManifestUnavailableError
from mcbn_workload.brokers.http import NoAnswerError, exchange
from mcbn_workload.errors import ConfigurationError

_log: Final = logging.getLogger("mcbn.workload.brokers")

PATH: Final = "/v1/manifest"
SHORT_BYTES: Final = 16 * 1024  # of a bundle that is judged on the event loop: 30 ms at worst, for nothing but numbers
_OK: Final = 200


def broker_address(manifest: Manifest, participant: str, overrides: Mapping[str, str]) -> BrokerAddress:
    """Return where a broker is asked: the operator's address if there is one, always with the manifest's CA."""
    address = manifest.brokers[participant]
    return BrokerAddress(overrides.get(participant, address.url), address.tls_ca)


class ManifestFinder:
    """Asks every source that is known, and keeps the newest manifest that all participants signed."""

    def __init__(
        self,
        roster: Roster,
        connector: Connector,
        *,
        source: str | None,
        overrides: Mapping[str, str],
        request_seconds: float,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            roster: The image's roster.
            connector: Makes the HTTP clients.
            source: `MCBN_MANIFEST`: a URL or a file's absolute path.
            overrides: Broker URLs by participant, from the environment.
            request_seconds: The deadline of one request.
        """
        self._roster = roster
        self._connector = connector
        self._source = source
        self._overrides = overrides
        self._request_seconds = request_seconds
        self._judging = asyncio.Lock()

    async def find(self, known: Sequence[AgreedManifest]) -> list[AgreedManifest]:
        """Ask all sources at the same time and return the manifests that are known now, the highest epoch first.

        Args:
            known: The manifest in use and others found before, whose brokers are asked too; none at the start, when
                broker addresses come from the environment only.

        Raises:
            ConfigurationError: There is no source at all.
            ManifestUnavailableError: No source gave a valid bundle; it says why, for each.
            ManifestConflictError: Two different manifests of one epoch are signed.
        """
        sources = self._sources(known)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(source) for source in sources]
        results = [task.result() for task in tasks]
        candidates = [*known, *(result for result in results if isinstance(result, AgreedManifest))]
        if not candidates:
            reasons = "; ".join(str(result) for result in results)
            raise ManifestUnavailableError(f"no valid manifest was found: {reasons}")
        return _descending(candidates, self._roster)

    def _sources(self, known: Sequence[AgreedManifest]) -> list[Coroutine[None, None, AgreedManifest | str]]:
        insecure_http = any(one.manifest.insecure_http for one in known)
        sources = [self._ask(name, address, PATH, insecure_http) for name, address in self._addresses(known)]
        if self._source is not None:
            sources.append(self._look_up(self._source, insecure_http))
        if not sources:
            raise ConfigurationError(
                "nobody to ask for the manifest: set MCBN_MANIFEST (a URL, or a file's absolute path), or one "
                "MCBN_BROKER_<NAME> or more"
            )
        return sources

    def _addresses(self, known: Sequence[AgreedManifest]) -> Iterable[tuple[str, BrokerAddress]]:
        if not known:
            return [(name, BrokerAddress(url, None)) for name, url in self._overrides.items()]
        return dict.fromkeys(
            (name, broker_address(one.manifest, name, self._overrides)) for one in known for name in self._roster.names
        )

    async def _look_up(self, source: str, insecure_http: bool) -> AgreedManifest | str:
        if not source.startswith("/"):
            return await self._ask(source, BrokerAddress(source, None), source, insecure_http)
        try:
            unverified_bundle = _read_file(source)
        except OSError as error:
            return f"{source}: {error.strerror}"
        return await self._checked(source, unverified_bundle)

    async def _ask(self, name: str, address: BrokerAddress, path: str, insecure_http: bool) -> AgreedManifest | str:
        try:
            async with self._connector.client(address, insecure_http=insecure_http) as http:
                answer = await exchange(http, "GET", path, limit=limits.MANIFEST_BYTES, seconds=self._request_seconds)
        except (NoAnswerError, ConfigurationError) as error:
            return f"{name}: {error}"
        if answer.status != _OK:
            return f"{name}: status {answer.status}"
        return await self._checked(name, answer.body)

    async def _checked(self, name: str, unverified_bundle: bytes) -> AgreedManifest | str:
        try:
            return await self._judged(unverified_bundle)
        except ProtocolError as error:
            _log.warning(
                "%s gives a manifest that is not valid: %s",
                name,
                error,
                extra={"event": "manifest_refused", "source": name},
            )
            return f"{name}: {error}"

    async def _judged(self, unverified_bundle: bytes) -> AgreedManifest:
        """Judge a long bundle in a thread, one at a time: whoever sends it must not hold up the channels."""
        if len(unverified_bundle) <= SHORT_BYTES:
            return AgreedManifest.parse(unverified_bundle, self._roster)
        async with self._judging:
            return await asyncio.to_thread(AgreedManifest.parse, unverified_bundle, self._roster)


def _read_file(path: str) -> bytes:
    """Read a regular file. The operator names it: opening a pipe or a device must not make the event loop wait."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "not a regular file", path)
        return file.read(limits.MANIFEST_BYTES + 1)


def _descending(candidates: Sequence[AgreedManifest], roster: Roster) -> list[AgreedManifest]:
    by_epoch: dict[int, AgreedManifest] = {}
    for one in candidates:
        other = by_epoch.setdefault(one.manifest.epoch, one)
        if other.hash != one.hash:
            raise ManifestConflictError(
                f"two different manifests of epoch {one.manifest.epoch} are signed, by {', '.join(roster.names)}: "
                f"{other.hash.hex()} and {one.hash.hex()}. Ask each of them which one it meant; neither is used"
            )
    return [by_epoch[epoch] for epoch in sorted(by_epoch, reverse=True)]
