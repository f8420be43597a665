"""Group commit beside one commit for each request: the real release service and store, 64 callers, no HTTP."""

import asyncio
import contextlib
import functools
import os
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from bench.agreement import Broker, now, set_up_broker
from bench.harness import Goal, Options, Report, Sample, Series, doubt, measure
from bench.profiling import profiled
from bench.workloads import Workloads

from mcbn_broker.appraisal import Policy
from mcbn_broker.attestation.confidential_space import (
    LEEWAY_SECONDS,
    MAXIMUM_AGE_SECONDS,
    ConfidentialSpaceVerifier,
)
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.kek import load_kek
from mcbn_broker.release.service import ReleaseService
from mcbn_broker.release.stores import Ledger, Transaction
from mcbn_broker.storage.ledger import GroupLedger
from mcbn_broker.storage.store import Store
from mcbn_protocol.messages import ReleaseRequest
from mcbn_protocol.sealing import Kem
from mcbn_simulator.issuer import Issuer

T = TypeVar("T")

CALLERS: Final = 64
_OPERATIONS: Final = 1000
_MICROSECONDS: Final = 1_000_000

GROUP: Final = "group commit"
SINGLE: Final = "one commit for each request"


class SingleLedger:
    """Commits each transaction by itself, on the event loop, as an application without a writer thread would."""

    def __init__(self, store: Store) -> None:
        self._journal = store.journal

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """Run one transaction."""
        with self._journal.transaction() as transaction:
            return work(transaction)

    async def aclose(self) -> None:
        """Nothing is left to do."""


class _IssuersKeys:
    """The key source of a verifier that needs no network."""

    def __init__(self, issuer: Issuer) -> None:
        self._key = issuer.signing_key.private_key.public_key()

    async def key(self, _issuer: str, _key_id: str):
        return self._key


class _Rig:
    """One store, with a release service for each ledger."""

    def __init__(self, broker: Broker, store: Store, issuer: Issuer, operations: int) -> None:
        self._broker = broker
        self._store = store
        self._verifier = ConfidentialSpaceVerifier(
            _IssuersKeys(issuer), maximum_age_seconds=MAXIMUM_AGE_SECONDS, leeway_seconds=LEEWAY_SECONDS
        )
        self._workloads = Workloads(broker, issuer)
        self._operations = operations
        self._policy = Policy()

    def service(self, ledger: Ledger) -> ReleaseService:
        home = self._store.home
        return ReleaseService(
            participant=self._broker.participant,
            roster=self._broker.roster,
            release_key=home.release_key,
            challenge_key=home.challenge_key,
            store=self._store,
            ledger=ledger,
            verifier=self._verifier,
            policy=lambda: self._policy,
            clock=now,
            random=os.urandom,
            challenge_seconds=120,
        )

    async def releases(self, service: ReleaseService) -> Sample:
        """Let 64 callers release as fast as they can; the value is the wall time of one release."""
        challenges = [await service.challenge(self._workloads.challenge_request()) for _ in range(self._operations)]
        requests = self._workloads.release_requests([one.challenge for one in challenges], Kem.X25519)
        waiting, latencies = iter(requests), list[float]()
        started = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(_call(service, waiting, latencies))
        return Sample((time.perf_counter() - started) / self._operations * _MICROSECONDS, latencies)


async def _call(service: ReleaseService, waiting: Iterator[ReleaseRequest], latencies: list[float]) -> None:
    for request in waiting:
        started = time.perf_counter()
        await service.release(request, correlation_id=str(uuid.uuid4()))
        latencies.append(time.perf_counter() - started)


@contextlib.asynccontextmanager
async def _rig(operations: int) -> AsyncIterator[tuple[_Rig, Store]]:
    issuer = Issuer("http://127.0.0.1:9")
    with tempfile.TemporaryDirectory(prefix="mcbn-bench-") as folder:
        broker = set_up_broker(Path(folder), issuer.issuer_url)
        home = Home.open(broker.data_dir, load_kek(broker.kek_file, broker.data_dir))
        with Store.open(home, clock=now) as store:
            yield _Rig(broker, store, issuer, operations), store


async def run(options: Options) -> Report:
    """Measure both, and how many records shared a commit."""
    operations = options.operations(_OPERATIONS)
    async with _rig(operations) as (rig, store):
        ledger = GroupLedger(store)
        grouped, single = rig.service(ledger), rig.service(SingleLedger(store))
        variants = {
            SINGLE: functools.partial(rig.releases, single),
            GROUP: functools.partial(rig.releases, grouped),
        }
        series = await measure(options.rounds, "us wall", variants)
        records = ledger.recorded / ledger.commits
        report = _judged(series, options.rounds, records, _commit_alone(store))
        if report.missed:
            report.profile = await profiled(rig.releases(grouped))
        await ledger.aclose()
    return report


def _commit_alone(store: Store) -> float:
    """Return the seconds of a transaction that only writes one audit record."""
    started = time.perf_counter()
    store.allow()
    return time.perf_counter() - started


def _judged(series: dict[str, Series], rounds: int, records: float, floor: float) -> Report:
    single, group = series[SINGLE], series[GROUP]
    why_not = doubt(single, rounds)
    return Report(
        f"Commits: {CALLERS} callers in one process, SQLite with synchronous=FULL in the temporary folder",
        single,
        [single, group],
        goals=[
            Goal("releases a second, group / single", 1 / group.ratio(single), 3, at_least=True, doubt=why_not),
            Goal("records in one commit", records, 8, at_least=True),
        ],
        notes=[
            "The value is wall time for one whole release (token, appraisal, sealing, signature), so it depends on the "
            f"disk: one transaction with one record takes {floor * 1000:.2f} ms here.",
        ],
    )
