"""CPU of a real broker process for each release, beside a FastAPI echo of the same payload."""

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from bench.harness import Goal, Options, Report, Sample, Series, doubt, measure
from bench.load import Fleet, connected, post
from bench.profiling import begin, hottest, under_profile
from bench.scene import Scene, Served, new_scene
from bench.workloads import challenge_in

from mcbn_protocol.sealing import Kem
from mcbn_protocol.signatures import Envelope

CONNECTIONS: Final = 64
_OPERATIONS: Final = 1000
_MICROSECONDS: Final = 1_000_000

ECHO: Final = "FastAPI echo, pydantic in and out"
CHALLENGE: Final = "challenge request"
X25519: Final = "release request, x25519"
HYBRID: Final = "release request, mlkem768-x25519"
WITNESS: Final = "release request, mlkem768-x25519, 2 audit heads"
PAIR: Final = "challenge + release, mlkem768-x25519"


@dataclass(frozen=True)
class _Load:
    """What is loaded and measured. Requests are prepared, and connections made, before the clock starts."""

    scene: Scene
    broker: Served
    operations: int

    async def challenge(self) -> Sample:
        """The first of a release's two requests."""
        asking = self.scene.ask_for_challenge
        async with connected(self.broker.address, CONNECTIONS) as fleet:
            await fleet.fire([asking] * CONNECTIONS)
            return await _fire(self.broker, fleet, [asking] * self.operations)

    async def release(self, kem: Kem, heads: tuple[Envelope, ...] = ()) -> Sample:
        """The second, each with a challenge and evidence of its own."""
        async with connected(self.broker.address, CONNECTIONS) as fleet:
            return await _fire(self.broker, fleet, await self._prepared(fleet, kem, heads))

    async def echo(self, echo: Served) -> Sample:
        """The yardstick, with the bytes of a hybrid release request."""
        async with connected(self.broker.address, 1) as fleet:
            requests = (await self._prepared(fleet, Kem.MLKEM768_X25519, (), count=1)) * self.operations
        async with connected(echo.address, CONNECTIONS) as fleet:
            await fleet.fire(requests[:CONNECTIONS])
            return await _fire(echo, fleet, requests)

    async def _prepared(
        self, fleet: Fleet, kem: Kem, heads: tuple[Envelope, ...], count: int | None = None
    ) -> list[bytes]:
        answers = await fleet.fire([self.scene.ask_for_challenge] * (count or self.operations))
        challenges = [challenge_in(body) for body in answers.bodies]
        requests = self.scene.workloads.release_requests(challenges, kem, heads)
        return [post("/v1/releases", one.to_bytes()) for one in requests]


async def _fire(server: Served, fleet: Fleet, requests: list[bytes]) -> Sample:
    before = server.process.cpu_seconds()
    answers = await fleet.fire(requests)
    used = server.process.cpu_seconds() - before
    return Sample(used / len(requests) * _MICROSECONDS, answers.latencies)


async def run(options: Options) -> Report:
    """Measure, judge, and profile the broker if a goal was missed."""
    async with new_scene() as scene:
        operations = options.operations(_OPERATIONS)
        series = await _measured(scene, options.rounds, operations)
        report = _judged(series, options.rounds, operations)
        if report.missed:
            report.profile = await _profile(scene, operations)
    return report


async def _measured(scene: Scene, rounds: int, operations: int) -> dict[str, Series]:
    async with scene.broker() as broker, scene.echo() as echo:
        load = _Load(scene, broker, operations)
        variants: dict[str, Callable[[], Awaitable[Sample]]] = {
            ECHO: functools.partial(load.echo, echo),
            CHALLENGE: load.challenge,
            X25519: functools.partial(load.release, Kem.X25519),
            HYBRID: functools.partial(load.release, Kem.MLKEM768_X25519),
            WITNESS: functools.partial(load.release, Kem.MLKEM768_X25519, scene.workloads.heads),
        }
        series = await measure(rounds, "us CPU", variants)
        series[ECHO].memory, series[HYBRID].memory = echo.process.memory(), broker.process.memory()
    return series


def _judged(series: dict[str, Series], rounds: int, operations: int) -> Report:
    echo = series[ECHO]
    pair = Series(PAIR, echo.unit)
    both = zip(series[CHALLENGE].values, series[HYBRID].values, strict=True)
    pair.samples = [Sample(challenge + release) for challenge, release in both]
    why_not = doubt(echo, rounds)
    return Report(
        f"Release: {operations} operations a round over {CONNECTIONS} connections, {rounds} rounds",
        echo,
        [*series.values(), pair],
        goals=[
            Goal("release request (x25519) / echo", series[X25519].ratio(echo), 2.5, doubt=why_not),
            Goal("release request (hybrid) / echo", series[HYBRID].ratio(echo), 2.5, doubt=why_not),
            Goal("challenge + release (hybrid) / echo", pair.ratio(echo), 2.5, doubt=why_not),
            Goal("hybrid / x25519", series[HYBRID].ratio(series[X25519]), 1.5, doubt=why_not),
        ],
        notes=[
            "CPU is that of the whole server process, all threads; memory is its resident set after all rounds.",
            "A release is two HTTP requests, the echo is one. The echo's payload is a hybrid release request.",
        ],
    )


async def _profile(scene: Scene, operations: int) -> str:
    output = scene.folder / "profile"
    async with scene.broker(under_profile(output)) as broker:
        load = _Load(scene, broker, operations)
        await load.release(Kem.MLKEM768_X25519)
        begin(broker.process)
        await load.release(Kem.MLKEM768_X25519)
        await broker.process.stop()
    return f"profile of the event loop's thread, {operations} challenges and hybrid releases:\n{hottest(output)}"
