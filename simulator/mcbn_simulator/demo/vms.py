"""A VM: an image's files, a launcher beside it, and the workload that its operator starts, again and again."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mcbn_protocol.identifiers import Role
from mcbn_simulator.demo.channels import MAIN, Line
from mcbn_simulator.demo.images import CONFIGURATION
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.processes import Process, Supervisor
from mcbn_simulator.machine import SimulatedMachine

PROGRAM: Final = "mcbn-workload"
_GATHER_SECONDS: Final = 20


class Vm:
    """One simulated VM.

    Args:
        role: What its image is made for.
        machine: What its tokens say.
        folder: Its files.
        supervisor: Runs its programs.
        narrator: Tells what its operator types.
        line: Which channel it opens.
    """

    def __init__(
        self,
        role: Role,
        machine: SimulatedMachine,
        folder: Path,
        supervisor: Supervisor,
        narrator: Narrator,
        *,
        line: Line = MAIN,
    ) -> None:
        self.role = role
        self.line = line
        self.machine = machine
        self.plain = folder / "app.sock"
        self._folder = folder
        self._supervisor = supervisor
        self._narrator = narrator
        self._runs = 0

    @property
    def name(self) -> str:
        """The VM's name."""
        return self.machine.instance_name

    def install(self, roster: bytes, **settings: str) -> None:
        """Write the files that its image would hold.

        Args:
            roster: The roster's bytes.
            settings: `forward` or `listen`: the plaintext end.
        """
        (self._folder / "roster.json").write_bytes(roster)
        members: dict[str, str | bool] = {
            "role": self.role.value,
            "roster": "roster.json",
            "channel": self.line.channel.value,
            "engine": self.line.client_engine if self.role is Role.CLIENT else "pyopenssl",
            "launcher_socket": str(self._folder / "tee.sock"),
            "insecure_loopback_brokers": True,  # everything here is on one machine
            **settings,
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in members.items()]
        lines += ["", "[deadlines]", f"gather_seconds = {_GATHER_SECONDS}"]
        (self._folder / CONFIGURATION).write_text("\n".join(lines) + "\n", encoding="utf-8")

    async def boot(self, control: Path) -> None:
        """Start its launcher, and wait until it answers.

        Args:
            control: The simulated attestation service's private socket.
        """
        self._describe({})
        launcher = await self._supervisor.start(
            f"{self.name}-launcher",
            "mcbn-simulator",
            *("launcher", "--socket", self._folder / "tee.sock", "--control", control),
            *("--machine", self._folder / "machine.json"),
        )
        await launcher.event("its socket", lambda event: "PROTECTS NOTHING" in event.text)

    async def run(self, operator: Mapping[str, str]) -> Process:
        """Start the workload, with what the operator sets in its environment: its tokens say that too."""
        self._describe(operator)
        self._runs += 1
        self._narrator.command(self.name, PROGRAM, self.machine.cmd)
        return await self._supervisor.start(
            f"{self.name}-{self._runs}", PROGRAM, *self.machine.cmd, environment=operator, cwd=self._folder
        )

    def _describe(self, operator: Mapping[str, str]) -> None:
        described: dict[str, Any] = dataclasses.replace(self.machine, env_override=dict(operator)).to_json()
        path = self._folder / "machine.json"
        new = path.with_suffix(".new")
        new.write_text(json.dumps(described), encoding="utf-8")
        new.replace(path)  # a launcher that reads just now sees the whole old one or the whole new one
