"""Acts about consent: keys are released and a channel opens, a pause ends it, and it heals."""

import time
from typing import Final

from mcbn_protocol.identifiers import Role
from mcbn_simulator.demo.application import PAGE, Visitor
from mcbn_simulator.demo.events import Event
from mcbn_simulator.demo.processes import DemoError, Process
from mcbn_simulator.demo.scene import Scene
from mcbn_simulator.demo.seen import Seen
from mcbn_simulator.demo.terms import LEASE_SECONDS
from mcbn_simulator.demo.together import together
from mcbn_simulator.demo.witnesses import every_release, named, signed_refusals

PAUSER: Final = "bob"
_NEWS_SECONDS: Final = 1.0  # for the ends' words to arrive here; their leases began before the pause


async def release(scene: Scene) -> Seen:
    """Server, then client, gather their shares; a page is read, and its connection kept for the next act."""
    server = scene.running[Role.SERVER] = await scene.start(scene.server)
    await every_release(scene, server, scene.server)
    scene.far_end = str((await named(server, "ready")).members["address"])
    channel = await _read_page_through_new_client(scene)
    return Seen(f"3 brokers, 2 VMs, 6 releases; {', '.join(channel.values())}; the page was read", channel)


async def pause(scene: Scene) -> Seen:
    """A pause binds the very next release, and every open channel at the end of its lease."""
    bob = scene.participants[PAUSER]
    before = {process: len(process.events) for process in scene.running.values()}
    await bob.types("consent", "pause", "--reason", "Bob wants to look at something first")
    paused = time.monotonic()
    await _refused_client(scene)
    ends = await together(*(_lease_end(one, after) for one, after in before.items()))
    if scene.visit is not None:
        await scene.visit.ended()
    seconds = max(end.at for end in ends) - paused
    if seconds > LEASE_SECONDS + _NEWS_SECONDS:
        raise DemoError(f"The channel ended {seconds:.1f} s after the pause; a lease has {LEASE_SECONDS} s.")
    for role, end in zip(scene.running, ends, strict=True):
        scene.narrator.step(f"{role}: {end.message}")
    return Seen(
        f"a new client has {bob.title}'s signed refusal; the channel ended at both ends after {seconds:.1f} s, "
        f"naming {bob.title}",
        {"participant": PAUSER, "seconds": round(seconds, 1), "ended": [str(role) for role in scene.running]},
    )


async def resume(scene: Scene) -> Seen:
    """Both ends have kept asking: they have keys again as soon as Bob allows it, and nobody restarts anything."""
    before = {process: len(process.events) for process in scene.running.values()}
    await scene.participants[PAUSER].types("consent", "allow")
    await together(*(named(one, "gathered", after=after) for one, after in before.items()))
    scene.narrator.step("Server and client have gathered their shares again, by themselves")
    await scene.supervisor.stop(scene.running[Role.CLIENT])
    channel = await _read_page_through_new_client(scene)
    return Seen("both ends healed by themselves; a new client read the page", channel)


async def _read_page_through_new_client(scene: Scene) -> dict[str, str]:
    client = scene.running[Role.CLIENT] = await scene.start(scene.client)
    await every_release(scene, client, scene.client)
    await named(client, "ready")
    scene.leave()
    scene.visit = await Visitor.come(scene.client.plain)
    page = await scene.visit.read_page()
    if page != PAGE:
        raise DemoError(f"Another page came through the tunnel: {page!r}")
    said = await named(client, "channel_open")
    channel = {name: str(said.members[name]) for name in ("protocol", "suite", "group")}
    scene.narrator.step(f"A channel is open: {', '.join(channel.values())}")
    scene.narrator.step(f"The page, read through it: {page.strip()}")
    return channel


async def _refused_client(scene: Scene) -> None:
    process = await scene.start(scene.client)
    (refusal,) = await signed_refusals(process, [PAUSER], code="consent_paused")
    scene.narrator.step(f"A new client ends without keys: {refusal.message}")


async def _lease_end(process: Process, after: int) -> Event:
    await named(process, "channel_ended", after=after)
    end = await named(process, "lease_ended", after=after)
    if end.members.get("participants") != [PAUSER]:
        raise DemoError(f"{process.name} should name {PAUSER} alone: {end.text}", process.tail())
    return end
