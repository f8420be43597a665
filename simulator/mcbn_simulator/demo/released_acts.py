"""Acts about consent: keys are released and a channel opens, a pause ends it, and it heals."""

import time
from typing import Final

from mcbn_simulator.demo.application import PAGE
from mcbn_simulator.demo.events import Event
from mcbn_simulator.demo.processes import DemoError, Process
from mcbn_simulator.demo.scene import Scene
from mcbn_simulator.demo.seen import Seen
from mcbn_simulator.demo.terms import LEASE_SECONDS
from mcbn_simulator.demo.together import together
from mcbn_simulator.demo.visitors import QUESTION, DatagramVisitor, PageVisitor, Visitor
from mcbn_simulator.demo.vms import Vm
from mcbn_simulator.demo.witnesses import audited, every_release, named, signed_refusals

PAUSER: Final = "bob"
_NEWS_SECONDS: Final = 5.0  # for the ends to wake and their words to come, on a busy machine


async def release(scene: Scene) -> Seen:
    """Server, then client, gather their shares; a page is read, and its connection kept for the next act."""
    await _start_server(scene, scene.server)
    channel = await _visit_through_new_client(scene, scene.client)
    return Seen(f"3 brokers, 2 VMs, 6 releases; {', '.join(channel.values())}; the page was read", channel)


async def channels(scene: Scene) -> Seen:
    """The same shares key the other channels: one over datagrams, one with certificates."""
    opened = await together(*(_pair(scene, server, client) for server, client in scene.others))
    return Seen(
        "; ".join(
            f"{client.line.title}: {', '.join(channel.values())}"
            for (_, client), channel in zip(scene.others, opened, strict=True)
        ),
        {client.line.channel.value: channel for (_, client), channel in zip(scene.others, opened, strict=True)},
    )


async def _pair(scene: Scene, server: Vm, client: Vm) -> dict[str, str]:
    await _start_server(scene, server)
    return await _visit_through_new_client(scene, client)


async def pause(scene: Scene) -> Seen:
    """A pause binds the very next release, and every open channel at the end of its lease."""
    bob = scene.participants[PAUSER]
    before = {process: len(process.events) for process in scene.running.values()}
    await bob.types("consent", "pause", "--reason", "Bob wants to look at something first")
    paused = time.monotonic()
    await _refused_client(scene)
    await audited(scene)  # there is time for this and the next: the leases that began before the pause run out
    await scene.boot_others()
    ends = await together(*(_lease_end(one, after) for one, after in before.items()))
    await together(*(visit.ended() for visit in scene.visits.values()))
    seconds = max(end.at for end in ends) - paused
    if seconds > LEASE_SECONDS + _NEWS_SECONDS:
        raise DemoError(f"The channel ended {seconds:.1f} s after the pause; a lease has {LEASE_SECONDS} s.")
    for vm, end in zip(scene.running, ends, strict=True):
        scene.narrator.step(f"{vm.name}: {end.message}")
    return Seen(
        f"a new client has {bob.title}'s signed refusal; all channels ended at both ends after {seconds:.1f} s, "
        f"naming {bob.title}",
        {"participant": PAUSER, "seconds": round(seconds, 1), "ended": [vm.name for vm in scene.running]},
    )


async def resume(scene: Scene) -> Seen:
    """Both ends have kept asking: they have keys again as soon as Bob allows it, and nobody restarts anything."""
    before = {process: len(process.events) for process in scene.running.values()}
    await scene.participants[PAUSER].types("consent", "allow")
    await together(*(named(one, "gathered", after=after) for one, after in before.items()))
    scene.narrator.step("Servers and clients have gathered their shares again, by themselves")
    await scene.supervisor.stop(scene.running[scene.client])
    channel = await _visit_through_new_client(scene, scene.client)
    return Seen("both ends healed by themselves; a new client read the page", channel)


async def _start_server(scene: Scene, vm: Vm) -> None:
    server = scene.running[vm] = await scene.start(vm)
    await every_release(scene, server, vm)
    scene.far_ends[vm.line] = str((await named(server, "ready")).members["address"])


async def _visit_through_new_client(scene: Scene, vm: Vm) -> dict[str, str]:
    client = scene.running[vm] = await scene.start(vm)
    await every_release(scene, client, vm)
    ready = await named(client, "ready")
    if vm in scene.visits:
        scene.visits[vm].leave()
    visit = scene.visits[vm] = await _come(vm, str(ready.members["address"]))
    answer, expected = await visit.ask(), QUESTION.decode().upper() if vm.line.datagrams else PAGE
    if answer != expected:
        raise DemoError(f"Something else came through the tunnel: {answer!r}")
    said = await named(client, "channel_open")
    channel = {name: str(said.members[name]) for name in ("protocol", "suite", "group") if said.members[name]}
    scene.narrator.step(f"A channel is open, {vm.line.title}: {', '.join(channel.values())}")
    scene.narrator.step(f"Through it came: {answer.strip()}")
    return channel


async def _come(vm: Vm, address: str) -> Visitor:
    return await DatagramVisitor.come(address) if vm.line.datagrams else await PageVisitor.come(vm.plain)


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
