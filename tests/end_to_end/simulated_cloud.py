"""A cloud on this machine: its VMs are a launcher and a workload, with the files that are really in their image."""

import asyncio
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from mcbn_images.oci import read_image, root_of
from mcbn_images.tree import Kind
from mcbn_protocol.identifiers import Role
from mcbn_simulator.compose.layouts import BuiltImage
from mcbn_simulator.demo.issuer import start_issuer
from mcbn_simulator.demo.processes import Process, Supervisor
from mcbn_simulator.machine import SimulatedMachine
from mcbn_smoke.cloud import Order, Site
from mcbn_smoke.images import FOLDER

PROJECT = "simulated-project-of-frank"
PROJECT_NUMBER = "100000000001"
HERE = Path(__file__).with_name("simulated_vm.py")
_FILES = ("etc/mcbn", FOLDER, "usr/lib/ssl/certs")


class SimulatedCloud:
    """A place for VMs on loopback.

    Attributes:
        opened: Set once it was opened.
        is_open: Whether anything may still be there.
        processes: What runs for it.

    Args:
        folder: Its files; a short name, for unix sockets.
        supervisor: Runs its programs.
        debug: Whether its VMs boot the debug image, whatever was ordered.
    """

    def __init__(self, folder: Path, supervisor: Supervisor, *, debug: bool = False) -> None:
        self.opened = asyncio.Event()
        self.is_open = False
        self.processes: list[Process] = []
        self._folder = folder
        self._supervisor = supervisor
        self._debug = debug
        self._layouts: dict[str, Path] = {}
        self._vms: dict[Role, tuple[Process, Process]] = {}

    async def open(self, ports: Sequence[int]) -> Site:
        self.is_open = True
        self.opened.set()
        issuer = await start_issuer(self._supervisor, self._folder / "control.sock")
        return Site(
            issuer=issuer,
            project_number=PROJECT_NUMBER,
            hwmodel="GCP_INTEL_TDX",
            debug=False,
            host="127.0.0.1",
            ports={port: port for port in ports},
            listen="127.0.0.1:0",
        )

    async def publish(self, layout: Path, name: str) -> str:
        reference = f"registry.simulator.invalid/{PROJECT}/{name}@{BuiltImage.read(layout).digest}"
        self._layouts[reference] = layout
        return reference

    async def start(self, order: Order) -> str:
        layout = self._layouts[order.image]
        await self._supervisor.stop(*self._vms.get(order.role, ()))
        name = f"{order.role}{len(self.processes)}"
        root = self._folder / name
        _unpack(layout, root)
        launcher = await self._boot(root, name, self._machine(order, BuiltImage.read(layout)))
        configuration = root / "etc/mcbn/workload.toml"
        process = await self._supervisor.start(
            name,
            sys.executable,
            *("-I", HERE, root, order.role.value, "--config", configuration),
            environment=order.environment,
            cwd=root,
        )
        self.processes.append(process)
        self._vms[order.role] = process, launcher
        if order.role is Role.CLIENT:
            return "127.0.0.1"
        ready = await process.event("its address", lambda event: event.name == "ready")
        return str(ready.members["address"])

    async def log(self, role: Role) -> Sequence[str]:
        return self._vms[role][0].tail() if role in self._vms else ()

    async def close(self) -> None:
        await self._supervisor.stop_all()
        self.is_open = False

    def _machine(self, order: Order, image: BuiltImage) -> SimulatedMachine:
        return SimulatedMachine(
            image_digest=image.digest,
            image_id=image.image_id,
            image_reference=order.image,
            entrypoint=image.entrypoint,
            cmd=image.cmd,
            env=image.env,
            env_override=order.environment,
            project_id=PROJECT,
            project_number=PROJECT_NUMBER,
            instance_name=f"{order.role}-vm",
            debug=self._debug or order.debug,
        )

    async def _boot(self, root: Path, name: str, machine: SimulatedMachine) -> Process:
        (root / "machine.json").write_text(json.dumps(machine.to_json()))
        launcher = await self._supervisor.start(
            f"{name}-launcher",
            "mcbn-simulator",
            *("launcher", "--socket", root / "tee.sock", "--control", self._folder / "control.sock"),
            *("--machine", root / "machine.json"),
        )
        self.processes.append(launcher)
        await launcher.event("its socket", lambda event: "PROTECTS NOTHING" in event.text)
        return launcher


def _unpack(layout: Path, root: Path) -> None:
    """Write the image's own files below a folder; its configuration is told that they are there."""
    for path, entry in root_of(read_image(layout)).items():
        if path.startswith(_FILES) and entry.kind is Kind.FILE:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(entry.data)
    configuration = root / "etc/mcbn/workload.toml"
    text = configuration.read_text()
    text = text.replace('"/usr/bin/python3.11"', json.dumps(sys.executable))
    text = text.replace(f'"/{FOLDER}/', f'"{root}/{FOLDER}/').replace('"/etc/mcbn/', f'"{root}/etc/mcbn/')
    text = re.sub(r'(?m)^(listen|forward) = ".*"$', rf'\1 = "unix:{root}/app.sock"', text)
    head = f'launcher_socket = "{root}/tee.sock"\ninsecure_loopback_brokers = true\n'
    configuration.write_text(head + text)
