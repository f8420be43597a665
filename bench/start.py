"""Cold start of a real client to the application's first byte, beside what no client could do without."""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from bench.harness import Goal, Options, Report, Sample, Series, doubt, measure
from bench.load import Connection, connected, post
from bench.network import FIRST_BYTE, Network, new_network
from bench.processes import clean_environment, script
from bench.workloads import challenge_in

from mcbn_protocol.binding import audience, binding_hash, nonces
from mcbn_protocol.encoding import JsonValue, canonical
from mcbn_protocol.identifiers import Role
from mcbn_protocol.messages import ChallengeRequest, ReleaseRequest
from mcbn_protocol.reference_values import EvidenceKind
from mcbn_protocol.sealing import SEED_BYTES, Kem, RecipientKey
from mcbn_simulator.demo.vms import PROGRAM
from mcbn_simulator.demo.witnesses import named
from mcbn_simulator.launcher import TOKEN_PATH

_STARTS: Final = 3
_WAIT_SECONDS: Final = 30
_MILLISECONDS: Final = 1000
_LIMIT: Final = 3.0

LEAST: Final = "imports, launcher, one broker's two round trips"
COLD: Final = "client, from its process to the first byte"


@dataclass
class _Parts:
    """Seconds of each part of an operation, over all operations."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def note(self, **parts: float) -> None:
        """Add one operation's."""
        for name, seconds in parts.items():
            self.seconds.setdefault(name, []).append(seconds)

    def __str__(self) -> str:
        medians = ((name, statistics.median(values)) for name, values in self.seconds.items())
        return ", ".join(f"{name.replace('_', ' ')} {value * _MILLISECONDS:.0f} ms" for name, value in medians)


class _Client:
    """A real client that is started anew each time."""

    def __init__(self, network: Network) -> None:
        self.parts = _Parts()
        self._network = network

    async def start(self) -> float:
        """Start it, use the tunnel as soon as it is said to be there, and end it; returns the seconds."""
        network, started = self._network, time.monotonic()
        process = await network.client.run(network.operator)
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                gathered = await named(process, "gathered")
                ready = await named(process, "ready")
                first_byte = await self._read_one()
        finally:
            await network.supervisor.stop(process)
        moments = {"gathered": gathered.at, "ready": ready.at, "first_byte": first_byte}
        self.parts.note(**{name: at - started for name, at in moments.items()})
        return first_byte - started

    async def _read_one(self) -> float:
        reader, writer = await asyncio.open_unix_connection(self._network.client.plain)
        await reader.readexactly(len(FIRST_BYTE))
        arrived = time.monotonic()
        writer.close()
        return arrived


class _Least:
    """What no client could do without, one after the other: import the program, get a token, ask one broker twice."""

    def __init__(self, network: Network) -> None:
        self.parts = _Parts()
        self._network = network
        self._participant = network.roster.names[0]
        self._key = RecipientKey.from_seed(Kem.MLKEM768_X25519, os.urandom(SEED_BYTES)).public_bytes

    async def do(self) -> float:
        """Do it; returns the seconds, in which nothing is prepared or checked."""
        imports = await _seconds(self._import)
        launcher, trips = await self._release()
        self.parts.note(imports=imports, launcher=launcher, two_round_trips=trips)
        return imports + launcher + trips

    async def _import(self) -> None:
        process = await asyncio.create_subprocess_exec(
            script(PROGRAM), "--version", stdout=asyncio.subprocess.DEVNULL, env=clean_environment()
        )
        if await process.wait() != 0:
            raise RuntimeError(f"{PROGRAM} --version ended with status {process.returncode}")

    async def _release(self) -> tuple[float, float]:
        """Get a share over a bare connection; returns the seconds of the launcher, and of both round trips."""
        agreed = self._network.agreed
        address = agreed.manifest.brokers[self._participant].url.removeprefix("http://")
        asked = post("/v1/challenges", ChallengeRequest(Role.CLIENT, agreed.hash).to_bytes())
        begun = time.monotonic()
        async with connected(address, 1) as fleet:
            (connection,) = fleet.connections
            challenge = challenge_in(await connection.ask(asked))
            challenged = time.monotonic()
            token = await self._token(challenge)
            attested = time.monotonic()
            request = post("/v1/releases", self._request(challenge, token))
            asking = time.monotonic()
            await connection.ask(request)
            return attested - challenged, challenged - begun + time.monotonic() - asking

    async def _token(self, challenge: str) -> str:
        roster_hash, name = self._network.roster.hash, self._participant
        binding = binding_hash(
            roster_hash=roster_hash,
            participant=name,
            role=Role.CLIENT,
            manifest_hash=self._network.agreed.hash,
            challenge=challenge,
            kem=Kem.MLKEM768_X25519,
            recipient_key=self._key,
        )
        reader, writer = await asyncio.open_unix_connection(self._network.launcher)
        try:
            wanted: list[JsonValue] = [*nonces(challenge, binding)]
            body = canonical({"audience": audience(roster_hash, name), "nonces": wanted, "token_type": "OIDC"})
            return (await Connection(reader, writer).ask(post(TOKEN_PATH, body))).decode("ascii")
        finally:
            writer.close()

    def _request(self, challenge: str, token: str) -> bytes:
        return ReleaseRequest(
            challenge=challenge,
            role=Role.CLIENT,
            manifest_hash=self._network.agreed.hash,
            kind=EvidenceKind.CONFIDENTIAL_SPACE,
            unverified_token=token,
            kem=Kem.MLKEM768_X25519,
            recipient_key=self._key,
            audit_heads=(),
        ).to_bytes()


async def _seconds(work: Callable[[], Awaitable[None]]) -> float:
    started = time.monotonic()
    await work()
    return time.monotonic() - started


async def run(options: Options) -> Report:
    """Measure and judge."""
    starts = options.operations(_STARTS)
    async with new_network() as network:
        least, client = _Least(network), _Client(network)

        async def repeat(operation: Callable[[], Awaitable[float]]) -> Sample:
            seconds = [await operation() for _ in range(starts)]
            return Sample(sum(seconds) / starts * _MILLISECONDS, seconds)

        variants = {LEAST: lambda: repeat(least.do), COLD: lambda: repeat(client.start)}
        series = await measure(options.rounds, "ms wall", variants)
        return _judged(series, options.rounds, starts, least.parts, client.parts)


def _judged(series: dict[str, Series], rounds: int, starts: int, least: _Parts, client: _Parts) -> Report:
    yardstick = series[LEAST]
    goal = Goal("cold start / least", series[COLD].ratio(yardstick), _LIMIT, doubt=doubt(yardstick, rounds))
    report = Report(
        f"Cold start: client, 3 brokers, hybrid KEM, TLS 1.3 PSK tunnel, all real; {starts} starts in a round",
        yardstick,
        list(series.values()),
        goals=[goal],
        notes=[
            f"The least, in parts: {least}. Imports are `{PROGRAM} --version`, from its process to its end.",
            "The client is started through the demo's supervisor, which costs it a bare interpreter more. Files are "
            "in the system's cache, modules are compiled; the launcher is simulated, brokers are on loopback, no TLS.",
        ],
    )
    moments = f"The client, from its start: {client}."
    if report.missed:
        report.profile = moments
    else:
        report.notes.append(moments)
    return report
