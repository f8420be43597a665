"""The ring of live epochs: gathered at the start, renewed before the leases end, forgotten when they do."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final, Protocol

from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.secret import Secret
from mcbn_workload.brokers.errors import ManifestConflictError, ManifestUnavailableError
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.brokers.outcomes import Outcome, Released, Row
from mcbn_workload.brokers.quorum import Gathering, Patience, Progress
from mcbn_workload.channels.engine import Engine
from mcbn_workload.epoch_keys.epoch import EpochKeys, LeaseEndedError
from mcbn_workload.epoch_keys.registry import EpochRegistry
from mcbn_workload.errors import NoKeysError

_log: Final = logging.getLogger("mcbn.workload.keys")

# The event loop's timers stand still while the machine is suspended: afterwards an idle channel outlives its lease by
# at most this. A channel that moves a byte is checked with that byte.
WATCH_SECONDS: Final = 5.0
RETRY_MIN: Final = 1.0  # seconds between two failed renewals
RETRY_MAX: Final = 30.0
JITTER: Final = 0.1  # of a lease: workloads that started together do not renew together


class Source(Protocol):
    """Where manifests and shares come from: the brokers."""

    async def find(self, known: AgreedManifest | None) -> AgreedManifest:
        """Return the newest manifest."""
        ...

    async def gather(self, agreed: AgreedManifest, participants: Iterable[str], progress: Progress) -> Gathering:
        """Ask these participants for their shares."""
        ...


class KeyRing:
    """The keys that this workload holds now: none, one epoch's, or two during an overlap."""

    def __init__(self, source: Source, participants: tuple[str, ...], *, clock: Clock, patience: Patience) -> None:
        """Prepare; nothing is gathered yet.

        Args:
            source: The brokers.
            participants: The roster's names.
            clock: The two clocks.
            patience: How to wait.
        """
        self._source = source
        self._participants = participants
        self._clock = clock
        self._patience = patience
        self._known: AgreedManifest | None = None
        self._epochs: list[EpochKeys] = []  # ascending
        self._rows: dict[str, Row] = {}
        self._ended: NoKeysError = LeaseEndedError((), "no keys have been gathered yet")
        self.registry: Final = EpochRegistry(lambda: self._epochs, clock)

    @property
    def epochs(self) -> tuple[EpochKeys, ...]:
        """The live epochs, the newest last."""
        return tuple(self._epochs)

    def guard(self) -> None:
        """Return while keys are live; end the epochs whose time is over.

        Raises:
            NoKeysError: None is live any more; it names whose lease ended, and why it was not renewed.
        """
        for keys in self._epochs:
            if keys.remaining() <= 0:
                self._end(keys)
                self.guard()
                return
        if not self._epochs:
            raise self._ended

    def lookup(self, unverified_identity: bytes) -> Secret | None:
        """Return the key of a PSK identity that a client offers, for the server's end; None for any other name."""
        for keys in self._epochs:
            if keys.identity.encode("ascii") == unverified_identity and keys.remaining() > 0:
                return keys.psk
        return None

    def client_engine(self) -> Engine:
        """Return the engine of a new channel under the newest key, for the client's end.

        Raises:
            NoKeysError: No key is live.
        """
        self.guard()
        return self._epochs[-1].client_engine()

    async def start(self) -> EpochKeys:
        """Find the manifest and gather all shares, once.

        Raises:
            ConfigurationError: There is no source of manifests.
            NoKeysError: No manifest, shares missing, or leases that ended while others were waited for.
        """
        self._known = await self._source.find(None)
        _announce(self._known)
        self._adopt(await self._gather_all(self._known))
        self.guard()
        return self._epochs[-1]

    async def run(self) -> None:
        """Renew, and end what is over, until cancelled. However it ends, the keys are forgotten then."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._renew_for_ever())
                group.create_task(self._watch())
        finally:
            self.stop()

    def stop(self) -> None:
        """Forget all keys and end all channels."""
        self._ended = reason = LeaseEndedError((), "this workload stops: its keys are forgotten")
        for keys in self._epochs:
            keys.forget()
        self._epochs.clear()
        self.registry.abort_all(reason)

    async def _watch(self) -> None:
        while True:
            ends = min((keys.remaining() for keys in self._epochs), default=WATCH_SECONDS)
            await self._patience.sleep(max(0.0, min(ends, WATCH_SECONDS)))
            self._sweep()

    def _sweep(self) -> None:
        for keys in self.epochs:
            if keys.remaining() <= 0:
                self._end(keys)

    async def _renew_for_ever(self) -> None:
        failures = 0
        while True:
            await self._patience.sleep(self._pause(failures))
            failures = 0 if await self._renew() else failures + 1

    def _pause(self, failures: int) -> float:
        seconds = self._lease_seconds()
        jitter = self._patience.jitter()
        if failures:
            longest = max(RETRY_MIN, min(RETRY_MAX, seconds / 8))
            return min(longest, RETRY_MIN * 2.0 ** (failures - 1)) * (1 + jitter) / 2
        if not self._epochs:
            return 0.0
        return max(0.0, self._epochs[-1].until_half_life()) + jitter * JITTER * seconds

    def _lease_seconds(self) -> int:
        return 0 if self._known is None else self._known.manifest.lease_seconds

    async def _renew(self) -> bool:
        """Follow a newer manifest if there is one, else extend the leases. Returns whether it went well."""
        self._known = agreed = await self._find()
        newest = self._epochs[-1] if self._epochs else None
        if newest is None or agreed.manifest.epoch > newest.epoch:
            adopted = await self._try_to_adopt(agreed)
            if adopted or newest is None:
                return adopted
        return await self._extend(newest)

    async def _find(self) -> AgreedManifest:
        known = self._known
        try:
            found = await self._source.find(known)
        except (ManifestUnavailableError, ManifestConflictError) as error:
            _log.error("%s", error, extra={"event": error.code})
            if known is None:
                raise
            return known
        if known is None or found.hash != known.hash:
            _announce(found)
        return found

    async def _try_to_adopt(self, agreed: AgreedManifest) -> bool:
        try:
            self._adopt(await self._gather_all(agreed))
        except NoKeysError as error:
            _log.warning("%s", error, extra={"event": "gather_incomplete", "code": error.code})
            return False
        return True

    async def _extend(self, keys: EpochKeys) -> bool:
        def progress(row: Row, outcome: Outcome) -> None:
            self._rows[row.participant] = row
            if isinstance(outcome, Released):
                keys.extend([outcome.lease])

        gathering = await self._source.gather(keys.agreed, keys.due(), progress)
        if keys not in self._epochs:
            return False  # it ended while the brokers were asked: gather anew
        missing = [row for row in gathering.rows if not row.complete]
        _log.log(
            logging.WARNING if missing else logging.INFO,
            "leases of epoch %d renewed%s",
            keys.epoch,
            ", but not all: " + "; ".join(row.text for row in missing) if missing else "",
            extra={
                "event": "renewal_incomplete" if missing else "renewed",
                "epoch": keys.epoch,
                "missing": [row.participant for row in missing],
                "seconds_left": round(keys.remaining()),
            },
        )
        return not missing

    async def _gather_all(self, agreed: AgreedManifest) -> Gathering:
        def progress(row: Row, _outcome: Outcome) -> None:
            self._rows[row.participant] = row

        return await self._source.gather(agreed, self._participants, progress)

    def _adopt(self, gathering: Gathering) -> None:
        keys = EpochKeys(gathering, self._clock)
        manifest = keys.agreed.manifest
        for older in self._epochs:
            older.retire(manifest.valid_from + manifest.overlap_seconds)
        self._epochs.append(keys)
        _log.info(
            "keys of epoch %d are complete",
            keys.epoch,
            extra={
                "event": "gathered",
                "epoch": keys.epoch,
                "manifest_hash": keys.agreed.hash.hex(),
                "psk_identity": keys.identity,
                "key_check": keys.key_check,
                "seconds_left": round(keys.remaining()),
            },
        )
        self._sweep()

    def _end(self, keys: EpochKeys) -> None:
        """Forget an epoch's key and end its channels, saying whose lease it was."""
        error = LeaseEndedError(keys.ended(), self._why(keys))
        self._epochs.remove(keys)
        keys.forget()
        self._ended = error
        channels = self.registry.abort_epoch(keys.identity, error)
        _log.warning(
            "%s",
            error,
            extra={
                "event": "lease_ended",
                "epoch": keys.epoch,
                "participants": list(error.participants),
                "channels": channels,
            },
        )

    def _why(self, keys: EpochKeys) -> str:
        names = keys.ended()
        if not names:
            return f"epoch {keys.epoch} has ended: the participants agreed on a newer manifest"
        reasons = "; ".join(self._why_not(name) for name in names)
        return f"epoch {keys.epoch} has ended with the lease of {', '.join(names)}: {reasons}"

    def _why_not(self, name: str) -> str:
        row = self._rows.get(name)
        return f"{name} gave no new lease in time" if row is None or row.complete else row.text


def _announce(agreed: AgreedManifest) -> None:
    manifest = agreed.manifest
    insecure = manifest.simulated or manifest.insecure_terms
    _log.log(
        logging.WARNING if insecure else logging.INFO,
        "manifest of epoch %d%s",
        manifest.epoch,
        ": SIMULATED OR INSECURE TERMS, not for production" if insecure else "",
        extra={
            "event": "manifest",
            "epoch": manifest.epoch,
            "manifest_hash": agreed.hash.hex(),
            "simulated": manifest.simulated,
            "insecure_terms": list(manifest.insecure_terms),
        },
    )
