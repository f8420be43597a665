"""The stage: everybody and everything that the acts need, started and agreed."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

from mcbn_protocol.identifiers import Role
from mcbn_simulator.demo.application import start_application, start_datagram_application
from mcbn_simulator.demo.ceremony import Ceremony
from mcbn_simulator.demo.channels import MAIN, OTHERS, Line
from mcbn_simulator.demo.images import ADDRESS_VARIABLES, broker_variable, image_digest, machine_for, reference_for
from mcbn_simulator.demo.issuer import start_issuer
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.participants import NAMES, Host, people, serve_all
from mcbn_simulator.demo.processes import Process, Supervisor
from mcbn_simulator.demo.terms import LEASE_SECONDS, terms_text
from mcbn_simulator.demo.together import together
from mcbn_simulator.demo.visitors import Visitor
from mcbn_simulator.demo.vms import Vm
from mcbn_simulator.demo.workspace import Workspace


@dataclasses.dataclass(kw_only=True)
class Scene:
    """What the acts find.

    Attributes:
        narrator: Tells what happens.
        supervisor: Runs and ends programs.
        control: The simulated attestation service's private socket.
        participants: By name.
        server: The server's VM.
        client: The client's VM.
        others: The VMs of the other channels: server and client of each.
        debug: A client's VM whose operator booted the debug image of Confidential Space.
        changed: A client's VM with an image that somebody changed.
        far_ends: Each server's ciphertext address, once it listens.
        releases: The audit record of the last release to a VM by a participant, as the VM's workload was told.
        running: The workloads that the next act finds running.
        visits: The connections through channels that it finds open.
    """

    narrator: Narrator
    supervisor: Supervisor
    control: Path
    participants: dict[str, Host]
    server: Vm
    client: Vm
    debug: Vm
    changed: Vm
    others: tuple[tuple[Vm, Vm], ...]
    far_ends: dict[Line, str] = dataclasses.field(default_factory=dict)
    releases: dict[tuple[Vm, str], int] = dataclasses.field(default_factory=dict)
    running: dict[Vm, Process] = dataclasses.field(default_factory=dict)
    visits: dict[Vm, Visitor] = dataclasses.field(default_factory=dict)

    @property
    def honest(self) -> tuple[Vm, ...]:
        """The VMs that run what everybody agreed to."""
        return self.server, self.client, *(vm for pair in self.others for vm in pair)

    @property
    def vms(self) -> tuple[Vm, ...]:
        """Every VM."""
        return *self.honest, self.debug, self.changed

    async def boot_others(self) -> None:
        """Start the launchers of the VMs that nobody agreed to; they are needed last."""
        await together(*(vm.boot(self.control) for vm in (self.debug, self.changed)))

    def leave(self) -> None:
        """End the visitors' connections, so that no workload waits for them."""
        for visit in self.visits.values():
            visit.leave()

    async def start(self, vm: Vm) -> Process:
        """Start a VM's workload, with the addresses that its operator sets."""
        address = "127.0.0.1:0" if vm.role is Role.SERVER else self.far_ends[vm.line]
        brokers = {broker_variable(name): one.url for name, one in self.participants.items()}
        return await vm.run({ADDRESS_VARIABLES[vm.role]: address} | brokers)


async def staged(space: Workspace, supervisor: Supervisor, narrator: Narrator) -> Scene:
    """Set the stage.

    Raises:
        DemoError: Something does not start, or a command fails.
    """
    control = space.root / "issuer.sock"
    issuer = await start_issuer(supervisor, control)
    with people(space, supervisor, narrator) as participants:
        narrator.act("Alice, Bob and Carol agree (each types what Alice types)")
        ceremony = Ceremony(participants, space.post)
        roster = await ceremony.introduce()
        scene = _scene(space, supervisor, narrator, participants, roster, control=control)
        await together(_agree(ceremony, scene, issuer), _boot(scene.honest, control), _install(scene, space, roster))
        return scene


def _scene(
    space: Workspace,
    supervisor: Supervisor,
    narrator: Narrator,
    participants: Sequence[Host],
    roster: bytes,
    *,
    control: Path,
) -> Scene:
    """Build the images around the roster, and say which VMs there are."""

    def vm(
        role: Role, name: str, number: int, *, line: Line = MAIN, debug: bool = False, content: bytes = roster
    ) -> Vm:
        machine = machine_for(role, name, number, image_digest(role, line.channel.encode() + b"\0" + content))
        machine = dataclasses.replace(machine, debug=debug)
        return Vm(role, machine, space.vm(name), supervisor, narrator, line=line)

    return Scene(
        narrator=narrator,
        supervisor=supervisor,
        control=control,
        participants={one.name: one for one in participants},
        server=vm(Role.SERVER, "server", 1),
        client=vm(Role.CLIENT, "client", 2),
        debug=vm(Role.CLIENT, "debug", 3, debug=True),
        others=tuple(
            (
                vm(Role.SERVER, f"{line.name}-server", number, line=line),
                vm(Role.CLIENT, f"{line.name}-client", number + 1, line=line),
            )
            for number, line in zip(itertools.count(5, 2), OTHERS, strict=False)
        ),
        changed=vm(Role.CLIENT, "changed", 4, content=roster + b" and something that nobody reviewed"),
    )


async def _agree(ceremony: Ceremony, scene: Scene, issuer: str) -> None:
    references = {
        role: reference_for(
            role, *(vm.machine for vm in scene.honest if vm.role is role), issuer=issuer, participants=NAMES
        )
        for role in (Role.SERVER, Role.CLIENT)
    }
    for vm in scene.honest:
        scene.narrator.step(f"Everybody builds {vm.name}'s image from the roster: {vm.machine.image_digest}")
    await ceremony.agree(terms_text(references))
    await serve_all(list(scene.participants.values()))
    scene.narrator.step(f"Three brokers are ready; a lease has {LEASE_SECONDS} s, which is short, to be watched")


async def _boot(vms: Sequence[Vm], control: Path) -> None:
    await together(*(vm.boot(control) for vm in vms))


async def _install(scene: Scene, space: Workspace, roster: bytes) -> None:
    page, capitals = await together(
        start_application(scene.supervisor, space.site), start_datagram_application(scene.supervisor)
    )
    for vm in scene.vms:
        if vm.role is Role.SERVER:
            vm.install(roster, forward=capitals if vm.line.datagrams else page)
        else:
            vm.install(roster, listen="127.0.0.1:0" if vm.line.datagrams else f"unix:{vm.plain}")
