"""Memory of a broker process beside a FastAPI echo's: fresh from its start, and while many connections are open."""

import asyncio
from asyncio.subprocess import PIPE
from typing import Final

from bench.harness import Goal, Options, Report, Sample, Series, doubt, measure
from bench.load import connected, post
from bench.processes import ROOT, clean_environment, module
from bench.scene import Scene, Served, new_scene
from bench.workloads import challenge_in

from mcbn_protocol.sealing import Kem

CONNECTIONS: Final = 256
_MIB: Final = 1024 * 1024

ECHO_IDLE: Final = "FastAPI echo, idle"
BROKER_IDLE: Final = "broker, idle"
ECHO_BUSY: Final = f"FastAPI echo, {CONNECTIONS} connections"
BROKER_BUSY: Final = f"broker, {CONNECTIONS} connections"


async def run(options: Options) -> Report:
    """Start both programs anew in each round, and look at them twice."""
    async with new_scene() as scene:
        rows = Rows(scene)
        variants = {
            ECHO_IDLE: rows.echo_idle,
            ECHO_BUSY: rows.echo_busy,
            BROKER_IDLE: rows.broker_idle,
            BROKER_BUSY: rows.broker_busy,
        }
        series = await measure(options.rounds, "MiB", variants)
    report = _judged(series, options.rounds)
    if report.missed:
        report.profile = await _profile()
    return report


async def _profile() -> str:
    command = module("bench.footprint")
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=clean_environment(), stdout=PIPE)
    output, _ = await process.communicate()
    return "what each package of the broker adds, imported in this order:\n" + output.decode()


class Rows:
    """The variants. Each starts a process of its own."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    async def echo_idle(self) -> Sample:
        """The yardstick after its start."""
        async with self._scene.echo() as echo:
            return _resident(echo)

    async def broker_idle(self) -> Sample:
        """The broker after its start, with its manifest and key set loaded."""
        async with self._scene.broker() as broker:
            return _resident(broker)

    async def echo_busy(self) -> Sample:
        """The yardstick after each connection made one request, with all of them open."""
        async with self._scene.broker() as broker, connected(broker.address, 1) as fleet:
            request = (await self._releases((await fleet.fire([self._scene.ask_for_challenge])).bodies))[0]
        async with self._scene.echo() as echo, connected(echo.address, CONNECTIONS) as fleet:
            await fleet.fire([request] * CONNECTIONS)
            return _resident(echo)

    async def broker_busy(self) -> Sample:
        """The broker after each connection got one release, with all of them open."""
        async with self._scene.broker() as broker, connected(broker.address, CONNECTIONS) as fleet:
            challenges = await fleet.fire([self._scene.ask_for_challenge] * CONNECTIONS)
            await fleet.fire(await self._releases(challenges.bodies))
            return _resident(broker)

    async def _releases(self, challenges: list[bytes]) -> list[bytes]:
        asked = [challenge_in(body) for body in challenges]
        prepared = self._scene.workloads.release_requests(asked, Kem.MLKEM768_X25519)
        return [post("/v1/releases", one.to_bytes()) for one in prepared]


def _resident(served: Served) -> Sample:
    return Sample(served.process.memory() / _MIB)


def _judged(series: dict[str, Series], rounds: int) -> Report:
    idle, busy = series[ECHO_IDLE], series[ECHO_BUSY]
    return Report(
        f"Memory: resident set, both programs started anew in {rounds} rounds",
        idle,
        list(series.values()),
        goals=[
            Goal("broker / echo, idle", series[BROKER_IDLE].ratio(idle), 1.35, doubt=doubt(idle, rounds)),
            Goal(
                f"broker / echo, {CONNECTIONS} connections",
                series[BROKER_BUSY].ratio(busy),
                1.6,
                doubt=doubt(busy, rounds),
            ),
        ],
    )
