"""Prepares the folder that `docker-compose.yml` mounts: the participants' agreement, and the VMs of two operators."""

import asyncio
import dataclasses
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import ConfidentialSpaceReference, ValueRule
from mcbn_simulator.compose.layouts import BuiltImage
from mcbn_simulator.compose.tls import TlsAuthority
from mcbn_simulator.demo.application import PAGE
from mcbn_simulator.demo.ceremony import Ceremony
from mcbn_simulator.demo.images import reference_of
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.participants import NAMES, Participant
from mcbn_simulator.demo.processes import DemoError, Supervisor, script, supervised
from mcbn_simulator.demo.terms import terms_text
from mcbn_simulator.demo.workspace import Workspace
from mcbn_simulator.machine import SimulatedMachine

ISSUER: Final = "http://issuer.simulator.example:8080"
BUNDLE: Final = "/run/mcbn/bundle.json"
CONTAINER_USER: Final = 65532
"""Who the images' programs run as, where this machine's root prepares the folder."""

LEASE_SECONDS: Final = 20
"""Short, so that a pause is seen to end a channel while somebody watches."""

_BUILD_SECONDS: Final = 600.0
_HEAD: Final = """\
valid_days = 1
overlap_seconds = 0
scheme = "hkdf-sha256"
channels = ["tls13-psk"]
kems = ["mlkem768-x25519"]
"""


@dataclasses.dataclass(frozen=True, eq=False)
class Operator:
    """Who runs one role's VM, in a project of its own.

    Attributes:
        name: Its name, in files and networks.
        role: What its VM plays.
        project_number: Its project's number, which the manifest pins.
        variables: What it sets in its VM's environment.
    """

    name: str
    role: Role
    project_number: str
    variables: Mapping[str, str]

    def machine(self, image: BuiltImage) -> SimulatedMachine:
        """Its VM, with an image."""
        return SimulatedMachine(
            image_digest=image.digest,
            image_id=image.image_id,
            image_reference=f"registry.simulator.invalid/mcbn/{self.role}@{image.digest}",
            entrypoint=image.entrypoint,
            cmd=image.cmd,
            env=image.env,
            env_override=self.variables,
            project_id=f"{self.name}-simulated",
            project_number=self.project_number,
            instance_name=f"{self.name}-vm",
            instance_id=f"1{self.project_number}",
        )

    def reference(self, machine: SimulatedMachine) -> ConfidentialSpaceReference:
        """The reference values that admit its VM and nobody else's."""
        rules = {name: ValueRule(value, is_pattern=False) for name, value in self.variables.items()}
        return reference_of(machine, issuer=ISSUER, env_override=rules)


OPERATORS: Final = (
    Operator(
        "frank", Role.CLIENT, "100000000001", {"MCBN_CONNECT": "server.dave.example:7443", "MCBN_MANIFEST": BUNDLE}
    ),
    Operator("dave", Role.SERVER, "200000000002", {"MCBN_LISTEN": "0.0.0.0:7443", "MCBN_MANIFEST": BUNDLE}),
)
"""Frank runs the client and Dave the server. `docker-compose.yml` sets the same variables."""


def host_of(participant: str) -> str:
    """Return the name under which the containers find a participant's broker."""
    return f"{participant}.broker.example"


def set_stage(folder: Path) -> bool:
    """Prepare the folder with this environment's programs, and tell on standard error; returns whether it is ready."""
    narrator = Narrator(Console(stderr=True))
    narrator.warning("SIMULATED CONFIDENTIAL SPACE: this shows how MCBN works, and protects nothing.")
    try:
        asyncio.run(prepare(folder, [script("mcbn-images")], narrator))
    except DemoError as error:
        narrator.bad(error.what, error.log)
        return False
    return True


async def prepare(folder: Path, builder: Sequence[str], narrator: Narrator) -> None:
    """Let three participants agree on images that are built for them, and describe the two operators' VMs.

    Args:
        folder: Where everything is put; it must not exist.
        builder: The image builder's command, without its arguments.
        narrator: Tells what happens.

    Raises:
        DemoError: The folder exists, or a command fails.
    """
    space = _new_workspace(folder)
    async with supervised(space.logs) as supervisor:
        await _agree(space, builder, supervisor, narrator)
    await asyncio.to_thread(_finish, space)


def _new_workspace(folder: Path) -> Workspace:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise DemoError(
            f"{folder} exists: end what runs from it (docker-compose down), remove it, then try again"
        ) from None
    return Workspace(folder)


async def _agree(space: Workspace, builder: Sequence[str], supervisor: Supervisor, narrator: Narrator) -> None:
    narrator.act("Alice, Bob and Carol agree (each types what Alice types)")
    people = [Participant(name, f"https://{host_of(name)}:8443", space, supervisor, narrator) for name in NAMES]
    ceremony = Ceremony(people, space.post)
    (space.post / "roster.json").write_bytes(await ceremony.introduce())
    _certify(space)
    machines = await _build(space, builder, supervisor, narrator)
    references = {one.role: one.reference(machine) for one, machine in machines.items()}
    addresses = "".join(f'[brokers.{name}]\ntls_ca_file = "ca.pem"\n' for name in NAMES)
    await ceremony.agree(terms_text(references, lease_seconds=LEASE_SECONDS, head=_HEAD + addresses, instances=1))


async def _build(
    space: Workspace, builder: Sequence[str], supervisor: Supervisor, narrator: Narrator
) -> dict[Operator, SimulatedMachine]:
    """Build the images around the roster, and describe the VMs that will run them."""
    images, roster = space.root / "images", space.post / "roster.json"
    program, *first = builder
    narrator.command("everybody", Path(program).name, [*first, "build", "--roster", "roster.json", "--out", "images"])
    for out, only in ((images, ()), (space.root / "simulator-image", ("--only", "simulator"))):
        process = await supervisor.start(out.name, program, *first, "build", "--roster", roster, "--out", out, *only)
        if await process.ended(_BUILD_SECONDS) != 0:
            raise DemoError("The images could not be built.", process.tail())
    machines = {one: one.machine(BuiltImage.read(images / one.role)) for one in OPERATORS}
    for operator, machine in machines.items():
        write_machine(space.root, operator, machine)
        narrator.step(f"{operator.name.capitalize()} runs the {operator.role} image: {machine.image_digest}")
    return machines


def write_machine(folder: Path, operator: Operator, machine: SimulatedMachine) -> None:
    """Say what an operator's VM is: its launcher reads this at each request.

    Args:
        folder: The prepared folder.
        operator: Whose VM.
        machine: The VM.
    """
    path = folder / f"vm-{operator.name}" / "machine.json"
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(machine.to_json(), indent=2) + "\n", encoding="utf-8")
    new.chmod(0o644)
    new.replace(path)  # the folder is mounted, not the file, so a launcher sees the new one


def _certify(space: Workspace) -> None:
    authority = TlsAuthority(time.time())
    (space.post / "ca.pem").write_bytes(authority.certificate)
    for name in NAMES:
        served = authority.serve(host_of(name))
        (space.desk(name) / "tls.pem").write_bytes(served.certificate)
        key = space.desk(name) / "tls.key"
        key.touch(mode=0o600)
        key.write_bytes(served.key)


def _finish(space: Workspace) -> None:
    (space.site / "index.html").write_text(PAGE, encoding="utf-8")
    for name in NAMES:
        mounted = space.desk(name) / "broker"
        mounted.mkdir(mode=0o700)
        (space.desk(name) / "state").rename(mounted / "data")  # below the mount point, which a restore cannot replace
    for name in ("control", *(operator.name for operator in OPERATORS)):
        (space.root / "run" / name).mkdir(parents=True)
    _hand_over(space.root)


def _hand_over(folder: Path) -> None:
    """Let the containers' user own what they read and write, and tell docker-compose who that is."""
    user, group = (CONTAINER_USER, CONTAINER_USER) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    (folder / "env").write_text(f"MCBN_USER={user}:{group}\n", encoding="ascii")
    if os.geteuid() == 0:
        for parent, folders, files in os.walk(folder):
            for name in (*folders, *files):
                os.chown(Path(parent, name), user, group, follow_symlinks=False)
