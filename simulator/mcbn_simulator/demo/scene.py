"""The stage: everybody and everything that the acts need, started and agreed."""

import contextlib
import dataclasses
import json
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final

from mcbn_protocol.identifiers import Role
from mcbn_simulator.demo.application import Visitor, start_application
from mcbn_simulator.demo.ceremony import Ceremony
from mcbn_simulator.demo.images import ADDRESS_VARIABLES, broker_variable, image_digest, machine_for, reference_for
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.participants import Participant
from mcbn_simulator.demo.processes import Process, Supervisor
from mcbn_simulator.demo.terms import LEASE_SECONDS
from mcbn_simulator.demo.together import together
from mcbn_simulator.demo.vms import Vm
from mcbn_simulator.demo.workspace import Workspace

NAMES: Final = ("alice", "bob", "carol")
_MARK: Final = "PROTECTS NOTHING: "  # stands before the JSON with which issuer and launcher say that they listen


@dataclasses.dataclass(kw_only=True)
class Scene:
    """What the acts find.

    Attributes:
        narrator: Tells what happens.
        supervisor: Runs and ends programs.
        participants: By name.
        server: The server's VM.
        client: The client's VM.
        debug: A client's VM whose operator booted the debug image of Confidential Space.
        changed: A client's VM with an image that somebody changed.
        far_end: The server's ciphertext address, once it listens.
        running: The workloads that the next act finds running, by role.
        visit: The connection through the channel that it finds open.
    """

    narrator: Narrator
    supervisor: Supervisor
    participants: dict[str, Participant]
    server: Vm
    client: Vm
    debug: Vm
    changed: Vm
    far_end: str = ""
    running: dict[Role, Process] = dataclasses.field(default_factory=dict)
    visit: Visitor | None = None

    @property
    def vms(self) -> tuple[Vm, ...]:
        """Every VM."""
        return self.server, self.client, self.debug, self.changed

    def leave(self) -> None:
        """End the visitor's connection, so that no workload waits for it."""
        if self.visit is not None:
            self.visit.leave()

    async def start(self, vm: Vm) -> Process:
        """Start a VM's workload, with the addresses that its operator sets."""
        address = "127.0.0.1:0" if vm.role is Role.SERVER else self.far_end
        brokers = {broker_variable(name): one.url for name, one in self.participants.items()}
        return await vm.run({ADDRESS_VARIABLES[vm.role]: address} | brokers)


@contextlib.contextmanager
def _people(space: Workspace, supervisor: Supervisor, narrator: Narrator) -> Generator[list[Participant]]:
    with contextlib.ExitStack() as sockets:
        yield [Participant(name, space, supervisor, narrator, sockets) for name in NAMES]


async def staged(space: Workspace, supervisor: Supervisor, narrator: Narrator) -> Scene:
    """Set the stage.

    Raises:
        DemoError: Something does not start, or a command fails.
    """
    control = space.root / "issuer.sock"
    issuer = await _start_issuer(supervisor, control)
    with _people(space, supervisor, narrator) as participants:
        narrator.act("Alice, Bob and Carol agree (each types what Alice types)")
        ceremony = Ceremony(participants, space.post)
        roster = await ceremony.introduce()
        scene = _scene(space, supervisor, narrator, participants, roster)
        await together(_agree(ceremony, scene, issuer), _boot(scene, control), _install(scene, space, roster))
        return scene


def _scene(
    space: Workspace, supervisor: Supervisor, narrator: Narrator, participants: Sequence[Participant], roster: bytes
) -> Scene:
    """Build the images around the roster, and say which VMs there are."""

    def vm(role: Role, name: str, number: int, *, debug: bool = False, content: bytes = roster) -> Vm:
        machine = machine_for(role, name, number, image_digest(role, content))
        machine = dataclasses.replace(machine, debug=debug)
        return Vm(role, machine, space.vm(name), supervisor, narrator)

    return Scene(
        narrator=narrator,
        supervisor=supervisor,
        participants={one.name: one for one in participants},
        server=vm(Role.SERVER, "server", 1),
        client=vm(Role.CLIENT, "client", 2),
        debug=vm(Role.CLIENT, "debug", 3, debug=True),
        changed=vm(Role.CLIENT, "changed", 4, content=roster + b" and something that nobody reviewed"),
    )


async def _agree(ceremony: Ceremony, scene: Scene, issuer: str) -> None:
    references = {
        vm.role: reference_for(vm.role, vm.machine, issuer=issuer, participants=NAMES)
        for vm in (scene.server, scene.client)
    }
    for vm in (scene.server, scene.client):
        scene.narrator.step(f"Everybody builds the {vm.role}'s image from the roster: {vm.machine.image_digest}")
    await ceremony.agree(references)
    scene.narrator.step(f"Three brokers are ready; a lease has {LEASE_SECONDS} s, which is short, to be watched")


async def _boot(scene: Scene, control: Path) -> None:
    await together(*(vm.boot(control) for vm in scene.vms))


async def _install(scene: Scene, space: Workspace, roster: bytes) -> None:
    application = await start_application(scene.supervisor, space.site)
    for vm in scene.vms:
        plain = {"forward": application} if vm.role is Role.SERVER else {"listen": f"unix:{vm.plain}"}
        vm.install(roster, **plain)


async def _start_issuer(supervisor: Supervisor, control: Path) -> str:
    process = await supervisor.start("issuer", "mcbn-simulator", "issuer", "--control", control)
    said = await process.event("its address", lambda event: _MARK in event.text)
    return str(json.loads(said.text.partition(_MARK)[2])["url"])
