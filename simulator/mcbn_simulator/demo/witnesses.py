"""What the acts look for in the programs' own words."""

import json
from collections.abc import Mapping
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
    """Wait until every participant has released to a workload, and say under what: its broker's audit knows."""
    await together(*(named(process, "released", participant=name) for name in scene.participants))
    for record in await together(*(_last_release(one, vm) for one in scene.participants.values())):
        scene.narrator.step(
            f"{record['participant'].capitalize()} released to {vm.name}: image {record['image_digest'][:19]}..., "
            f"lease {record['lease_seconds']} s, audit record {record['sequence']}"
        )


async def _last_release(one: Participant, vm: Vm) -> Mapping[str, Any]:
    tail = await one.types("audit", "tail", "-n", "30", "--output", "json", shown=False)
    records = [entry["record"] for entry in json.loads("\n".join(tail.printed))["records"]]
    digest = vm.machine.image_digest
    releases = [record for record in records if record["kind"] == "release" and record["image_digest"] == digest]
    if not releases:
        raise DemoError(f"{one.title}'s audit has no release among its last records.")
    return {"participant": one.name, **releases[-1]}


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
