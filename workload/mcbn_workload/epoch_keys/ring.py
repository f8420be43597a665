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
        self._rows: dict[str, Row] = {}
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
            raise self._ended
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
        jitter = self._patience.jitter()
        lease_seconds = min((one.manifest.lease_seconds for one in self._candidates), default=0)
        if failures:
            return pace.after_failure(failures, lease_seconds, jitter)
        if not self._epochs:
            return pace.RETRY_MIN  # they ended as soon as they were complete, or since
        return pace.after_success(self._epochs[-1].until_half_life(), lease_seconds, jitter)

    async def _renew(self) -> bool:
        """Follow a newer manifest if there is one, else extend the leases. Returns whether it went well."""
        try:
            self._candidates, self._withheld = await self._find(), None
        except ManifestConflictError as error:
            self._withheld = error  # the leases run out: whoever signed twice has to say which one it meant
            _log.error("no lease is renewed: %s", error, extra={"event": error.code})
            return False
        newer = self._newer()
        if newer and await self._try_to_follow(newer):
            return bool(self._epochs)
        return bool(self._epochs) and await self._extend(self._epochs[-1])

    def _newer(self) -> list[AgreedManifest]:
        """Return the candidates above what is live, or while nothing is, from the highest that ever was."""
        above = self._epochs[-1].epoch if self._epochs else 0
        return [one for one in self._candidates if one.manifest.epoch > above]

    async def _find(self) -> list[AgreedManifest]:
        found = await self._source.find(self._candidates)
        if not self._candidates or found[0].hash != self._candidates[0].hash:
            _announce(found[0])
        return [one for one in found if one.manifest.epoch >= self._lowest]

    async def _try_to_follow(self, candidates: Sequence[AgreedManifest]) -> bool:
        try:
            await self._follow(candidates)
        except (NoKeysError, ConfigurationError) as error:
            _log.warning("%s", error, extra={"event": "gather_incomplete", "code": error.code})
            return False
        return True

    async def _follow(self, candidates: Sequence[AgreedManifest]) -> None:
        """Gather under the first of these, from the highest down, that the brokers release under.

        Raises:
            NoKeysError: They release under none: what is wrong with the highest.
            ConfigurationError: Likewise; this image cannot follow it.
        """
        failure: NoKeysError | ConfigurationError | None = None
        for agreed in candidates:
            try:
                self._adopt(await self._derive(await self._gather_all(agreed)))
            except (NoKeysError, ConfigurationError) as error:
                failure = failure or error
            else:
                return
        if failure is not None:
            raise failure

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

    async def _derive(self, gathering: Gathering) -> EpochKeys:
        if self._opener.slow:
            return await asyncio.to_thread(EpochKeys, gathering, self._clock, self._opener)
        return EpochKeys(gathering, self._clock, self._opener)

    def _adopt(self, keys: EpochKeys) -> None:
        manifest = keys.agreed.manifest
        for superseded in self._epochs[:-1]:
            self._end(superseded)
        for previous in self._epochs:
            previous.retire(manifest.valid_from + manifest.overlap_seconds)
        self._epochs.append(keys)
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
        reasons = self._reasons(names)
        return f"epoch {keys.epoch} has ended with the lease of {', '.join(names)}: {reasons}"

    def _reasons(self, names: Iterable[str]) -> str:
        if self._withheld is not None:
            return f"no lease is renewed, because {self._withheld}"
        return "; ".join(self._why_not(name) for name in names)

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
