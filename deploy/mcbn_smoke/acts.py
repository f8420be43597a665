"""The acts: what is done, what must come of it, and how that is seen in the brokers' audits and in the VMs' reports."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from mcbn_protocol.identifiers import Role
from mcbn_simulator.demo.application import PAGE
from mcbn_simulator.demo.outcomes import Outcome
from mcbn_simulator.demo.processes import DemoError
from mcbn_simulator.demo.seen import Seen
from mcbn_smoke.errors import SmokeError
from mcbn_smoke.stage import Stage

PAUSER: Final = "bob"
_NEWS_SECONDS: Final = 15.0  # for a report to arrive: the visitor looks once a second, and waits 10 s for an answer


@dataclass(frozen=True)
class Act:
    """One act.

    Attributes:
        name: Stable, for programs.
        title: What is about to happen.
        expected: What must come of it.
        perform: Does it; raises `DemoError` when something else comes of it.
    """

    name: str
    title: str
    expected: str
    perform: Callable[[Stage], Awaitable[Seen]]

    async def play(self, stage: Stage) -> Outcome:
        """Perform it, and say what came of it."""
        started = time.monotonic()
        try:
            seen = await self.perform(stage)
        except DemoError as error:
            seen, passed = Seen(error.what, {"log": error.log}), False
        else:
            passed = True
        return Outcome(self.name, self.expected, seen.text, passed, time.monotonic() - started, seen.facts)


async def gather(stage: Stage) -> Seen:
    """Both VMs boot and gather; each asks for a token of its own, which the report will have."""
    await stage.start(Role.SERVER, MCBN_LISTEN=stage.site.listen)
    await _has_token(stage, Role.SERVER)
    await stage.start(Role.CLIENT, MCBN_CONNECT=stage.addresses[Role.SERVER])
    await _has_token(stage, Role.CLIENT)
    for name in stage.hosts:
        for role in Role:
            await _released(stage, name, role)
    return Seen(f"{len(stage.hosts)} brokers released to 2 VMs: {stage.site.hwmodel}", {"hwmodel": stage.site.hwmodel})


async def page(stage: Stage) -> Seen:
    """The visitor in the client's VM reads the page of the server's VM."""
    report = await stage.collector.report("client", "page", seconds=stage.patience.heal)
    return _read(report.text)


async def pause(stage: Stage) -> Seen:
    """A pause binds the very next release, and ends the channel at the end of its lease."""
    before = len(stage.collector.reports)
    await stage.hosts[PAUSER].types("consent", "pause", "--reason", "Bob wants to look at something first")
    paused = time.monotonic()
    report = await stage.collector.report(
        "client", "no_page", seconds=stage.patience.lease + _NEWS_SECONDS, after=before
    )
    seconds = round(report.at - paused, 1)
    if not await stage.records(PAUSER, kind="refusal", code="consent_paused"):
        raise SmokeError("Bob's audit has no refusal, so the channel ended for another reason.")
    return Seen(f"the channel ended {seconds} s after Bob's pause; his broker refuses", {"seconds": seconds})


async def resume(stage: Stage) -> Seen:
    """Both VMs have kept asking: the page comes again, and nobody restarts anything."""
    before = len(stage.collector.reports)
    await stage.hosts[PAUSER].types("consent", "allow")
    report = await stage.collector.report("client", "page", seconds=stage.patience.heal, after=before)
    return _read(report.text)


ACTS: Final = (
    Act("gather", "Two VMs gather their shares", "each broker releases to server and client", gather),
    Act("page", "A page comes through the channel", "the page", page),
    Act("pause", "Bob pauses his consent", "the page cannot be read any longer once a lease has ended", pause),
    Act("resume", "Bob allows again", "the page, without anybody restarting anything", resume),
)


async def _has_token(stage: Stage, role: Role) -> None:
    await stage.collector.report(role, "token", seconds=stage.patience.boot)
    stage.narrator.step(f"The {role}'s VM has gathered, and sent a token for the report")


async def _released(stage: Stage, name: str, role: Role) -> None:
    digest = stage.digests[role]
    records = await stage.records(name, kind="release", role=role.value, image_digest=digest)
    if not records:
        raise SmokeError(f"{name.capitalize()}'s audit has no release to the {role} with {digest}.")
    stage.narrator.step(f"{name.capitalize()} released to the {role}: audit record {records[-1]['sequence']}")


def _read(text: str) -> Seen:
    if text != PAGE:
        raise SmokeError(f"Something else came through the channel: {text!r}")
    return Seen("the page was read")
