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
from mcbn_smoke.cloud import Site
from mcbn_smoke.errors import SmokeError
from mcbn_smoke.stage import Published, Stage

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
    for role in (Role.SERVER, Role.CLIENT):  # the client's operator has to know where the server is
        await stage.start(role)
        await _has_token(stage, role)
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


async def debug_image(stage: Stage) -> Seen:
    """A debug image lets its operator log in: the agreed digest in it helps nobody."""
    return await _refused(stage, stage.images[Role.CLIENT], "dbgstat", debug=True)


async def wrong_digest(stage: Stage) -> Seen:
    """A genuine VM, with an image of other content."""
    return await _refused(stage, stage.changed, "image_digest", debug=False)


ACTS: Final = (
    Act("gather", "Two VMs gather their shares", "each broker releases to server and client", gather),
    Act("page", "A page comes through the channel", "the page", page),
    Act("pause", "Bob pauses his consent", "the page cannot be read any longer once a lease has ended", pause),
    Act("resume", "Bob allows again", "the page, without anybody restarting anything", resume),
    Act(
        "debug-image",
        "The client's operator boots the debug image of Confidential Space",
        "every broker refuses, failing check dbgstat",
        debug_image,
    ),
    Act(
        "wrong-digest",
        "The client's operator runs an image that nobody agreed to",
        "every broker refuses, failing check image_digest",
        wrong_digest,
    ),
)


def acts_at(site: Site) -> tuple[Act, ...]:
    """Return the acts that can be played: where everybody agreed to the debug image, nobody refuses it."""
    return tuple(act for act in ACTS if not (site.debug and act.perform is debug_image))


async def _has_token(stage: Stage, role: Role) -> None:
    await stage.collector.report(role, "token", seconds=stage.patience.boot)
    stage.narrator.step(f"The {role}'s VM has gathered, and sent a token for the report")


async def _released(stage: Stage, name: str, role: Role) -> None:
    digest = stage.images[role].digest
    records = await stage.records(name, kind="release", role=role.value, image_digest=digest)
    if not records:
        raise SmokeError(f"{name.capitalize()}'s audit has no release to the {role} with {digest}.")
    stage.narrator.step(f"{name.capitalize()} released to the {role}: audit record {records[-1]['sequence']}")


async def _refused(stage: Stage, image: Published, check: str, *, debug: bool) -> Seen:
    """Put another VM in the place of the client's, and wait until every broker has refused it for this reason."""
    before = {name: len(broker.events) for name, broker in stage.brokers.items()}
    await stage.start(Role.CLIENT, image, debug=debug)
    facts = {"role": Role.CLIENT.value, "image_digest": image.digest, "code": "appraisal_failed"}
    for name, broker in stage.brokers.items():
        await broker.event(
            "a refusal",
            lambda event: (event.name, event.members.get("code")) == ("refused", "appraisal_failed"),
            after=before[name],
            seconds=stage.patience.boot,
        )
        records = await stage.records(name, kind="refusal", **facts)
        checks = [record["check"] for record in records]
        if checks[-1:] != [check]:
            raise SmokeError(f"{name.capitalize()}'s audit should have a refusal for {check}, but has: {checks}")
        stage.narrator.step(f"{name.capitalize()} refuses: check {check}, audit record {records[-1]['sequence']}")
    return Seen(f"all {len(stage.brokers)} brokers refuse: check {check}", {"check": check})


def _read(text: str) -> Seen:
    if text != PAGE:
        raise SmokeError(f"Something else came through the channel: {text!r}")
    return Seen("the page was read")
