"""What the acts look for in the programs' own words."""

import json
from typing import Any

from mcbn_simulator.demo.events import Event
from mcbn_simulator.demo.participants import Participant
from mcbn_simulator.demo.processes import DemoError, Process
from mcbn_simulator.demo.scene import Scene
from mcbn_simulator.demo.together import together
from mcbn_simulator.demo.vms import Vm

NO_KEYS_STATUS = 4  # mcbn-workload: the shares could not be gathered


async def named(process: Process, event: str, *, after: int = 0, **members: Any) -> Event:
    """Wait for an event of a workload in which these members have these values."""
    wanted = ", ".join([event, *map(str, members.values())])
    return await process.event(
        f"`{wanted}`",
        lambda said: said.name == event and members.items() <= said.members.items(),
        after=after,
    )


async def every_release(scene: Scene, process: Process, vm: Vm) -> None:
    """Wait until a workload has everybody's share, and say what each release tells it."""
    told = await together(*(named(process, "released", participant=name) for name in scene.participants))
    for one, event in zip(scene.participants.values(), told, strict=True):
        lease, sequence = event.members["lease_seconds"], event.members["audit_sequence"]
        image = f"{vm.machine.image_digest[:19]}..."
        scene.narrator.step(
            f"{one.title} released to {vm.name}: image {image}, lease {lease} s, audit record {sequence}"
        )
        scene.releases[vm, one.name] = sequence


async def audited(scene: Scene) -> None:
    """Compare the brokers' own audits with what the running workloads were told.

    Raises:
        DemoError: An audit has another image under the number that a workload was told, or none.
    """
    people = scene.participants.values()
    for one, records in zip(people, await together(*(_tail(one) for one in people)), strict=True):
        for vm in scene.running:
            record = records.get(scene.releases[vm, one.name], {})
            if record.get("kind") != "release" or record["image_digest"] != vm.machine.image_digest:
                raise DemoError(f"{one.title}'s audit has no release to {vm.name} where its broker said so: {record}")
        scene.narrator.step(
            f"{one.title}'s audit has the releases to all {len(scene.running)} VMs, by their images' digests"
        )


async def _tail(one: Participant) -> dict[int, dict[str, Any]]:
    tail = await one.types("audit", "tail", "-n", "500", "--output", "json", shown=False)
    return {entry["sequence"]: entry["record"] for entry in json.loads("\n".join(tail.printed))["records"]}


async def signed_refusals(process: Process, participants: list[str], *, code: str) -> list[Event]:
    """Wait for a workload that gets no keys: the refusals, which it believes only when they are signed, and its end.

    Raises:
        DemoError: Another outcome.
    """
    events = await together(*(named(process, "refused", participant=name, code=code) for name in participants))
    status = await process.ended()
    if status != NO_KEYS_STATUS:
        raise DemoError(f"{process.name} ended with status {status}, not {NO_KEYS_STATUS}.", process.tail())
    return events
