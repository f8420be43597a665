"""The ring of live epochs: gathered at the start, renewed before the leases end, forgotten when they do."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, cast

from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.secret import Secret
from mcbn_workload.brokers.errors import ManifestConflictError
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.brokers.outcomes import Outcome, Released, Row
from mcbn_workload.brokers.quorum import Gathering, Patience, Progress
from mcbn_workload.channels.engine import Acceptor, DatagramEngine, Engine, EngineFactory
from mcbn_workload.epoch_keys import pace
from mcbn_workload.epoch_keys.epoch import EpochKeys, LeaseEndedError
from mcbn_workload.epoch_keys.openers import EpochChannel, Opener, PskOpener, find_psk
from mcbn_workload.epoch_keys.registry import EpochRegistry
from mcbn_workload.errors import ConfigurationError, NoKeysError

_log: Final = logging.getLogger("mcbn.workload.keys")

# The event loop's timers stand still while the machine is suspended: afterwards an idle channel outlives its lease by
# at most this. A channel that moves a byte is checked with that byte.
WATCH_SECONDS: Final = 5.0


class Source(Protocol):
    """Where manifests and shares come from: the brokers."""

    async def find(self, known: Sequence[AgreedManifest]) -> list[AgreedManifest]:
        """Return the manifests that are known now, the highest epoch first."""
        ...

    async def gather(self, agreed: AgreedManifest, participants: Iterable[str], progress: Progress) -> Gathering:
        """Ask these participants for their shares."""
        ...


class KeyRing:
    """The keys that this workload holds now: none, one epoch's, or two during an overlap."""

    def __init__(
        self,
        source: Source,
        participants: tuple[str, ...],
        *,
        clock: Clock,
        patience: Patience,
        opener: Opener | None = None,
    ) -> None:
        """Prepare; nothing is gathered yet.

        Args:
            source: The brokers.
            participants: The roster's names.
            clock: The two clocks.
            patience: How to wait.
            opener: Derives the channels' keys; by default the PSK of TLS 1.3.
        """
        self._source = source
        self._participants = participants
        self._clock = clock
        self._patience = patience
        self._opener = opener or PskOpener()
        self._candidates: list[AgreedManifest] = []  # descending
        self._lowest = 0  # the highest epoch that was ever live here: none below it is gathered
        self._withheld: ManifestConflictError | None = None
        self._epochs: list[EpochKeys] = []  # ascending
        self._rows: dict[tuple[int, str], Row] = {}  # what the brokers last answered, by epoch and participant
        self._looking = asyncio.Lock()
        self._awaited = asyncio.Event()  # there is something to gather under, or nothing is live any more
        self._ended: NoKeysError = LeaseEndedError((), "no keys have been gathered yet")
        self.registry: Final = EpochRegistry(lambda: self._epochs, clock)

    @property
    def epochs(self) -> tuple[EpochKeys, ...]:
        """The live epochs, the newest last."""
        return tuple(self._epochs)

    def guard(self, identity: str | None = None) -> None:
        """Return while keys are live; end the epochs whose time is over.

        Args:
            identity: What names the key that must be live; None for any.

        Raises:
            NoKeysError: It is not live any more; if none is, it names whose lease ended, and why it was not renewed.
        """
        held = identity is None
        for keys in self._epochs:
            if keys.remaining() <= 0:
                self._end(keys)
                self.guard(identity)
                return
            held = held or keys.identity == identity
        if not self._epochs:
            raise self._ended.with_traceback(None)  # raised each time: its frames must not add up
        if not held:
            raise LeaseEndedError((), "the epoch of this channel's key has ended: open a new channel")

    def lookup(self, unverified_identity: bytes) -> Secret | None:
        """Return the key of a PSK identity that a client offers, for the server's end; None for any other name."""
        return find_psk(self._live(), unverified_identity)

    def server_engines(self) -> EngineFactory:
        """Return what makes the engines of a listener, for the server's end; they go by the epochs of their time."""
        return cast("EngineFactory", self._opener.server(self._live))

    def acceptor(self) -> Acceptor:
        """Return the same for a channel over datagrams."""
        return cast("Acceptor", self._opener.server(self._live))

    def _live(self) -> list[EpochChannel]:
        newest_first = reversed(self._epochs)
        return [keys.channel for keys in newest_first if keys.channel is not None and keys.remaining() > 0]

    def client_engine(self) -> Engine:
        """Return the engine of a new channel under the newest key, for the client's end.

        Raises:
            NoKeysError: No key is live.
        """
        self.guard()
        return self._epochs[-1].client_engine()

    def datagram_client_engine(self) -> DatagramEngine:
        """Return the same for a channel over datagrams."""
        return cast("DatagramEngine", self.client_engine())

    def older_client_engine(self) -> Engine | None:
        """Return the engine of a second attempt, for a far end that does not hold the newest key yet.

        It is under the epoch before, while that is live and its overlap is not over; else None.
        """
        older = (keys for keys in reversed(self._epochs[:-1]) if keys.remaining() > 0)
        return next((keys.client_engine() for keys in older), None)

    def older_datagram_client_engine(self) -> DatagramEngine | None:
        """Return the same for a channel over datagrams."""
        return cast("DatagramEngine | None", self.older_client_engine())

    async def start(self) -> EpochKeys:
        """Find the manifest and gather all shares, once.

        Raises:
            ConfigurationError: There is no source of manifests, or the manifest does not allow this image's channel.
            NoKeysError: No manifest, shares missing, or leases that ended while others were waited for.
        """
        self._candidates = await self._find()
        await self._follow(self._candidates)
        self.guard()
        return self._epochs[-1]

    async def run(self) -> None:
        """Renew, and end what is over, until cancelled. However it ends, the keys are forgotten then.

        Each epoch is renewed by a task of its own, and newer ones are gathered by another, so that a broker that is
        silent about one epoch costs no other its leases.
        """
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch())
                group.create_task(self._follow_for_ever(group))
                for keys in self._epochs:
                    group.create_task(self._renew_to_the_end(keys))
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

    async def _renew_to_the_end(self, keys: EpochKeys) -> None:
        """Renew the leases of one epoch, for as long as it is live: during an overlap the older one's too."""
        failures = 0
        while keys in self._epochs:
            await self._patience.sleep(self._until_renewal(keys, failures))
            failures = 0 if await self._renew(keys) else failures + 1

    def _until_renewal(self, keys: EpochKeys, failures: int) -> float:
        jitter, lease_seconds = self._patience.jitter(), keys.agreed.manifest.lease_seconds
        if failures:
            return pace.after_failure(failures, lease_seconds, jitter)
        return pace.after_success(keys.until_half_life(), lease_seconds, jitter)

    async def _renew(self, keys: EpochKeys) -> bool:
        """Extend what is due, unless manifests contradict each other. Returns whether it went well."""
        if keys not in self._epochs or not keys.due():
            return True
        return await self._look() and await self._extend(keys)

    async def _follow_for_ever(self, group: asyncio.TaskGroup) -> None:
        """Gather under newer manifests; while nothing is live, under any from the highest that ever was."""
        failures = 0
        while True:
            if self._epochs:
                await self._awaited.wait()
            else:
                await self._patience.sleep(self._until_attempt(failures))
                await self._look()
            if self._withheld is None and (keys := await self._try_to_follow(self._newer())) is not None:
                group.create_task(self._renew_to_the_end(keys))
            self._awaited.clear()
            failures = 0 if self._epochs else failures + 1

    def _until_attempt(self, failures: int) -> float:
        lease_seconds = min((one.manifest.lease_seconds for one in self._candidates), default=0)
        return pace.after_failure(max(1, failures), lease_seconds, self._patience.jitter())

    async def _look(self) -> bool:
        """Ask which manifests there are. Returns False while two of one epoch are: then no lease is renewed."""
        async with self._looking:
            try:
                self._candidates, self._withheld = await self._find(), None
            except ManifestConflictError as error:
                self._withheld = error  # the leases run out: whoever signed twice has to say which one it meant
                _log.error("no lease is renewed: %s", error, extra={"event": error.code})
            if self._newer():
                self._awaited.set()
        return self._withheld is None

    def _newer(self) -> list[AgreedManifest]:
        """Return the candidates above what is live, or while nothing is, from the highest that ever was."""
        above = self._epochs[-1].epoch if self._epochs else 0
        return [one for one in self._candidates if one.manifest.epoch > above]

    async def _find(self) -> list[AgreedManifest]:
        found = await self._source.find(self._candidates)
        if not self._candidates or found[0].hash != self._candidates[0].hash:
            _announce(found[0])
        return [one for one in found if one.manifest.epoch >= self._lowest]

    async def _try_to_follow(self, candidates: Sequence[AgreedManifest]) -> EpochKeys | None:
        """Gather if there is anything to gather under; return the keys that came of it."""
        if not candidates:
            return None
        try:
            return await self._follow(candidates)
        except (NoKeysError, ConfigurationError) as error:
            kept = f"; the keys of epoch {self._epochs[-1].epoch} stay" if self._epochs else ""
            epoch = candidates[0].manifest.epoch
            extra = {"event": "gather_incomplete", "code": error.code, "epoch": epoch}
            _log.warning("no keys of epoch %d yet%s: %s", epoch, kept, error, extra=extra)
            return None

    async def _follow(self, candidates: Sequence[AgreedManifest]) -> EpochKeys:
        """Gather under the first of these, from the highest down, that the brokers release under.

        Args:
            candidates: At least one.

        Raises:
            NoKeysError: They release under none: what is wrong with the highest.
            ConfigurationError: Likewise; this image cannot follow it.
        """
        failures: list[NoKeysError | ConfigurationError] = []
        for agreed in candidates:
            try:
                keys = await self._derive(await self._gather_all(agreed))
                self._adopt(keys)
            except (NoKeysError, ConfigurationError) as error:
                failures.append(error)
            else:
                return keys
        raise failures[0]

    async def _extend(self, keys: EpochKeys) -> bool:
        def progress(row: Row, outcome: Outcome) -> None:
            self._rows[keys.epoch, row.participant] = row
            if isinstance(outcome, Released):
                keys.extend([outcome.lease])

        gathering = await self._source.gather(keys.agreed, keys.due(), progress)
        if keys not in self._epochs:
            return False  # it ended while the brokers were asked
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
            self._rows[agreed.manifest.epoch, row.participant] = row

        return await self._source.gather(agreed, self._participants, progress)

    async def _derive(self, gathering: Gathering) -> EpochKeys:
        if self._opener.slow:
            return await asyncio.to_thread(EpochKeys, gathering, self._clock, self._opener)
        return EpochKeys(gathering, self._clock, self._opener)

    def _adopt(self, keys: EpochKeys) -> None:
        manifest = keys.agreed.manifest
        for superseded in self._epochs[:-1]:
            self._end(superseded)
        for previous in self._epochs:
            follows = keys.epoch == previous.epoch + 1  # after a gap, which may hide a revocation, there is no overlap
            previous.retire(manifest.valid_from + (manifest.overlap_seconds if follows else 0))
        self._epochs.append(keys)
        held = {one.epoch for one in self._epochs}
        self._rows = {key: row for key, row in self._rows.items() if key[0] in held}
        self._lowest = max(self._lowest, keys.epoch)
        _log.info(
            "keys of epoch %d are complete",
            keys.epoch,
            extra={
                "event": "gathered",
                "epoch": keys.epoch,
                "manifest_hash": keys.agreed.hash.hex(),
                **keys.names,
                "key_check": keys.key_check,
                "seconds_left": round(keys.remaining()),
            },
        )
        self._sweep()

    def _end(self, keys: EpochKeys) -> None:
        """Forget an epoch's key and end its channels, saying whose lease it was."""
        error = LeaseEndedError(keys.ended(), self._why(keys))
        self._epochs.remove(keys)
        if not self._epochs:
            self._awaited.set()
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
        reasons = self._reasons(keys.epoch, names)
        return f"epoch {keys.epoch} has ended with the lease of {', '.join(names)}: {reasons}"

    def _reasons(self, epoch: int, names: Iterable[str]) -> str:
        if self._withheld is not None:
            return f"no lease is renewed, because {self._withheld}"
        return "; ".join(self._why_not(epoch, name) for name in names)

    def _why_not(self, epoch: int, name: str) -> str:
        row = self._rows.get((epoch, name))
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
