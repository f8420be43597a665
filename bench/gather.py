"""Time in which a workload gathers from all brokers, beside that of one broker, whose two answers wait 50 ms each."""

import contextlib
import functools
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.harness import Goal, Options, Report, Sample, Series, doubt, measure
from bench.load import connected, post
from bench.processes import module, running
from bench.profiling import profiled
from bench.stub import WAIT_SECONDS
from bench.workloads import challenge_in

from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.messages import ChallengeRequest, ReleaseRequest
from mcbn_protocol.reference_values import EvidenceKind
from mcbn_protocol.roster import Roster
from mcbn_protocol.sealing import SEED_BYTES, Kem, RecipientKey
from mcbn_workload.attester import TokenKind
from mcbn_workload.brokers.addresses import Connector
from mcbn_workload.brokers.client import Terms
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.brokers.quorum import Patience, Quorum

FEW: Final = 3
MANY: Final = 10
_GATHERINGS: Final = 10
_MILLISECONDS: Final = 1000
_TOKEN: Final = ".".join(("h" * 80, "c" * 2200, "s" * 342))  # as long as a real one; the stubs believe it

ONE: Final = "one broker, bare connection"


class _Attester:
    """Has the token at hand: what a launcher takes is not the subject."""

    async def token(self, _kind: TokenKind, _audience: str, _nonces: tuple[str, ...]) -> str:
        return _TOKEN


@dataclass(frozen=True)
class _Stubs:
    """Running stub brokers, and what everybody agreed on."""

    roster: Roster
    agreed: AgreedManifest
    connector: Connector

    async def gather(self) -> None:
        """Gather from all of them as a workload does."""
        terms = Terms(
            roster=self.roster,
            agreed=self.agreed,
            role=Role.CLIENT,
            attester=_Attester(),
            clock=Clock(),
            random=secrets.token_bytes,
            request_seconds=10,
            heads={},
        )
        quorum = Quorum(terms, self.connector, Patience(gather_seconds=20, jitter=random.random), {})
        gathering = await quorum.gather(self.roster.names, lambda _row, _outcome: None)
        gathering.require_complete()

    async def ask_one(self) -> None:
        """Make the two requests to one of them, with nothing prepared, checked or opened in between."""
        address = self.agreed.manifest.brokers[self.roster.names[0]].url.removeprefix("http://")
        async with connected(address, 1) as fleet:
            (connection,) = fleet.connections
            asked = ChallengeRequest(Role.CLIENT, self.agreed.hash)
            challenge = challenge_in(await connection.ask(post("/v1/challenges", asked.to_bytes())))
            await connection.ask(post("/v1/releases", self._release(challenge)))

    def _release(self, challenge: str) -> bytes:
        return ReleaseRequest(
            challenge=challenge,
            role=Role.CLIENT,
            manifest_hash=self.agreed.hash,
            kind=EvidenceKind.CONFIDENTIAL_SPACE,
            unverified_token=_TOKEN,
            kem=Kem.MLKEM768_X25519,
            recipient_key=_recipient_key(),
            audit_heads=(),
        ).to_bytes()


@functools.cache
def _recipient_key() -> bytes:
    return RecipientKey.from_seed(Kem.MLKEM768_X25519, os.urandom(SEED_BYTES)).public_bytes


@contextlib.asynccontextmanager
async def _stubs(count: int, folder: Path) -> AsyncIterator[_Stubs]:
    async with running(f"stubs-{count}", module("bench.stub", str(count)), folder) as process:
        said = await process.said("listening")
        roster = Roster.parse(said["roster"].encode())
        yield _Stubs(roster, AgreedManifest.parse(said["bundle"].encode(), roster), Connector())


async def run(options: Options) -> Report:
    """Measure and judge."""
    with TemporaryDirectory(prefix="mcbn-bench-") as name:
        folder = Path(name)
        async with _stubs(FEW, folder) as few, _stubs(MANY, folder) as many:
            operations = options.operations(_GATHERINGS)
            variants = {
                ONE: functools.partial(_repeat, few.ask_one, operations),
                _title(FEW): functools.partial(_repeat, few.gather, operations),
                _title(MANY): functools.partial(_repeat, many.gather, operations),
            }
            series = await measure(options.rounds, "ms wall", variants)
            own = {count: await _own_cpu(stubs, operations) for count, stubs in ((FEW, few), (MANY, many))}
            report = _judged(series, options.rounds, operations, own)
            if report.missed:
                report.profile = await profiled(_repeat(many.gather, operations))
    return report


def _title(count: int) -> str:
    return f"gathering from {count} brokers"


async def _repeat(call: Callable[[], Awaitable[None]], operations: int) -> Sample:
    latencies = []
    for _ in range(operations):
        started = time.perf_counter()
        await call()
        latencies.append(time.perf_counter() - started)
    return Sample(sum(latencies) / operations * _MILLISECONDS, latencies)


async def _own_cpu(stubs: _Stubs, operations: int) -> float:
    started = time.process_time()
    await _repeat(stubs.gather, operations)
    return (time.process_time() - started) / operations


def _judged(series: dict[str, Series], rounds: int, operations: int, own: dict[int, float]) -> Report:
    one = series[ONE]
    why_not = doubt(one, rounds)
    return Report(
        f"Gathering: hybrid KEM, each answer waits {WAIT_SECONDS * _MILLISECONDS:.0f} ms, {operations} times a round",
        one,
        list(series.values()),
        goals=[
            Goal(f"N = {count} / one broker", series[_title(count)].ratio(one), limit, doubt=why_not)
            for count, limit in ((FEW, 1.5), (MANY, 2.0))
        ],
        notes=[
            f"The workload's own CPU: {own[FEW] * _MILLISECONDS:.1f} ms for {FEW} brokers, "
            f"{own[MANY] * _MILLISECONDS:.1f} ms for {MANY}. Tokens are at hand; every share is verified and opened.",
            "Plain HTTP on loopback: TLS adds a handshake for each broker.",
        ],
    )
