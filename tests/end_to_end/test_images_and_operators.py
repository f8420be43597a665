"""Real images, built for a real agreement's roster, on the VMs of two operators: who gets shares and who does not."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from rich.console import Console

from mcbn_images.oci import read_image
from mcbn_protocol.identifiers import Role
from mcbn_simulator.compose.layouts import BuiltImage
from mcbn_simulator.demo.ceremony import Ceremony
from mcbn_simulator.demo.images import ADDRESS_VARIABLES, broker_variable, machine_for, reference_for
from mcbn_simulator.demo.issuer import start_issuer
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.participants import NAMES, Host, people, serve_all
from mcbn_simulator.demo.processes import Supervisor, supervised
from mcbn_simulator.demo.terms import terms_text
from mcbn_simulator.demo.vms import Vm
from mcbn_simulator.demo.witnesses import named, signed_refusals
from mcbn_simulator.demo.workspace import Workspace, workspace
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.testing.backstage import Backstage, backstage
from tests.images.building import build, copy_of_the_tree
from tests.images.variants import with_a_file, with_a_label

pytestmark = pytest.mark.timeout(600)

PROJECTS = {Role.CLIENT: "100000000001", Role.SERVER: "200000000002"}
"""Frank's, who runs the client, and Dave's, who runs the server."""


@dataclasses.dataclass(frozen=True)
class Agreed:
    """Three running brokers, and each role's VM as its operator should run it."""

    space: Workspace
    supervisor: Supervisor
    stage: Backstage
    brokers: list[Host]
    roster: bytes
    layouts: Path
    machines: Mapping[Role, SimulatedMachine]

    def checks(self, machine: SimulatedMachine, role: Role, **variables: str) -> dict[str, object]:
        """Start a VM that gets no keys; return the check by which each participant has refused it, signed."""
        return self.stage.run(self._checks(machine, role, variables))

    async def _checks(self, machine: SimulatedMachine, role: Role, variables: dict[str, str]) -> dict[str, object]:
        async with self._running(machine, role, variables) as process:
            refusals = await signed_refusals(process, list(NAMES), code="appraisal_failed")
            return {event.members["participant"]: event.members.get("check") for event in refusals}

    def released(self, machine: SimulatedMachine, role: Role) -> None:
        """Start a VM that gets its keys: every participant has released to it."""
        self.stage.run(self._released(machine, role))

    async def _released(self, machine: SimulatedMachine, role: Role) -> None:
        async with self._running(machine, role, {}) as process:
            for name in NAMES:
                await named(process, "released", participant=name)

    @contextlib.asynccontextmanager
    async def _running(self, machine: SimulatedMachine, role: Role, variables: dict[str, str]):
        plain = {"forward": "127.0.0.1:1"} if role is Role.SERVER else {"listen": "127.0.0.1:0"}
        folder = self.space.vm(str(len(list(self.space.root.glob("vm*")))))
        vm = Vm(role, machine, folder, self.supervisor, Narrator(Console(quiet=True)))
        vm.install(self.roster, **plain)
        await vm.boot(self.space.root / "issuer.sock")
        address = "127.0.0.1:0" if role is Role.SERVER else "127.0.0.1:1"
        brokers = {broker_variable(one.name): one.url for one in self.brokers}
        process = await vm.run({ADDRESS_VARIABLES[role]: address} | brokers | variables)
        try:
            yield process
        finally:
            await self.supervisor.stop(process)


@pytest.fixture(scope="module")
def agreed(tmp_path_factory):
    """Let three participants build images for their roster, agree on them and serve."""
    tree = copy_of_the_tree(tmp_path_factory.mktemp("images") / "tree")
    with (
        backstage() as stage,
        workspace(keep=False) as space,
        stage.inside(supervised(space.logs)) as supervisor,
        stage.inside(_agree(space, supervisor, stage, tree)) as agreed,
    ):
        yield agreed


@contextlib.asynccontextmanager
async def _agree(space: Workspace, supervisor: Supervisor, stage: Backstage, tree: Path) -> AsyncIterator[Agreed]:
    issuer = await start_issuer(supervisor, space.root / "issuer.sock")
    with people(space, supervisor, Narrator(Console(quiet=True))) as brokers:
        ceremony = Ceremony(brokers, space.post)
        roster = await ceremony.introduce()
        (space.post / "roster.json").write_bytes(roster)
        layouts = space.root / "images"
        build(tree, layouts, roster=space.post / "roster.json")
        machines = {role: _machine(role, BuiltImage.read(layouts / role)) for role in Role}
        references = {
            role: reference_for(role, machine, issuer=issuer, participants=NAMES) for role, machine in machines.items()
        }
        await ceremony.agree(terms_text(references))
        await serve_all(brokers)
        yield Agreed(space, supervisor, stage, brokers, roster, layouts, machines)


def _machine(role: Role, image: BuiltImage) -> SimulatedMachine:
    agreed = machine_for(role, role.value, 1, image.digest)
    return dataclasses.replace(agreed, image_id=image.image_id, env=image.env, project_number=PROJECTS[role])


@pytest.mark.parametrize("role", Role)
def test_each_operator_gets_shares_for_the_image_of_its_role(agreed, role):
    agreed.released(agreed.machines[role], role)


@pytest.mark.parametrize("role", Role)
def test_the_other_operators_vm_is_refused_the_role_although_it_runs_the_roles_image(agreed, role):
    (other,) = set(Role) - {role}
    machine = dataclasses.replace(agreed.machines[role], project_number=PROJECTS[other])
    assert agreed.checks(machine, role) == dict.fromkeys(NAMES, "project_number")


@pytest.mark.parametrize("change", [with_a_file, with_a_label])
def test_a_changed_image_is_refused(agreed, change):
    image = change(read_image(agreed.layouts / "client"))
    machine = dataclasses.replace(agreed.machines[Role.CLIENT], image_digest=image.digest)
    assert agreed.checks(machine, Role.CLIENT) == dict.fromkeys(NAMES, "image_digest")


def test_an_override_outside_the_list_is_refused(agreed):
    checks = agreed.checks(agreed.machines[Role.CLIENT], Role.CLIENT, LD_PRELOAD="/tmp/spy.so")
    assert checks == dict.fromkeys(NAMES, "env_override")
