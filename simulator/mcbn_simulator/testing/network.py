"""Three participants with real brokers who have agreed, and the VMs of their two images, for synchronous tests."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Generator, Mapping
from pathlib import Path
from typing import Final

from rich.console import Console

from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import ChannelKind
from mcbn_simulator.demo.ceremony import Ceremony
from mcbn_simulator.demo.channels import Line
from mcbn_simulator.demo.events import Event
from mcbn_simulator.demo.images import ADDRESS_VARIABLES, CONFIGURATION, broker_variable
from mcbn_simulator.demo.issuer import start_issuer
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.participants import Host, people, serve_all
from mcbn_simulator.demo.processes import Process, Supervisor, supervised
from mcbn_simulator.demo.vms import Vm
from mcbn_simulator.demo.workspace import Workspace, workspace
from mcbn_simulator.errors import SimulatorError
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.testing.backstage import Backstage

_ANY_PORT: Final = "127.0.0.1:0"


class Broker:
    """One participant's running broker."""

    def __init__(self, participant: Host, stage: Backstage) -> None:
        self._participant = participant
        self._stage = stage
        self.name = participant.name

    @property
    def url(self) -> str:
        """Where it answers."""
        return self._participant.url

    def command(self, *arguments: str | Path) -> str:
        """Run a command of `mcbn-broker` as this participant, and return what it prints.

        Raises:
            DemoError: It fails.
        """
        process = self._stage.run(self._participant.types(*arguments))
        return "\n".join(process.printed)

    def pause(self) -> None:
        """Pause this participant's consent. Leases that are out run on to their end."""
        self.command("consent", "pause")

    def allow(self) -> None:
        """Allow releases again."""
        self.command("consent", "allow")


@dataclasses.dataclass(frozen=True)
class Workload:
    """A VM of one role: files as its image has them, a launcher, and what its operator sets.

    Attributes:
        role: `server` or `client`.
        configuration: Its `workload.toml`.
        environment: What its operator sets: `MCBN_LISTEN` or `MCBN_CONNECT`, and each `MCBN_BROKER_<NAME>`. So
            `mcbn_workload.Settings.load(configuration, environment)` is what the workload would go by.
        machine: What its tokens say.
    """

    role: Role
    configuration: Path
    environment: Mapping[str, str]
    machine: SimulatedMachine


class RunningWorkload:
    """A running `mcbn-workload`, and everything that it has logged."""

    def __init__(self, process: Process, stage: Backstage) -> None:
        self._process = process
        self._stage = stage
        self.ready: Final = self.event("ready")

    def event(self, name: str) -> Mapping[str, object]:
        """Wait for an event of its log, also one that has been logged already; returns its members.

        Raises:
            DemoError: It ends, or is silent for too long, without it.
        """
        found: Event = self._stage.run(self._process.event(name, lambda event: event.name == name))
        return found.members

    @property
    def address(self) -> str:
        """server: the ciphertext address; client: the plaintext address for the application."""
        return str(self.ready["address"])

    @property
    def endpoint(self) -> tuple[str, int]:
        """The same as host and port."""
        host, _, port = self.address.rpartition(":")
        return host, int(port)


class Network:
    """Alice, Bob and Carol, who have agreed on one server's and one client's image; all of them allow releases."""

    def __init__(self, space: Workspace, supervisor: Supervisor, stage: Backstage, agreement: "_Agreement") -> None:
        self._space = space
        self._supervisor = supervisor
        self._stage = stage
        self._agreement = agreement
        self._narrator = Narrator(Console(quiet=True))
        self._vms = 0
        self._paused: set[str] = set()
        self.brokers: Final = {one.name: Broker(one, stage) for one in agreement.participants}
        self.roster: Final = agreement.roster
        self.bundle: Final = space.post / "bundle.json"

    def pause(self, participant: str) -> None:
        """Let a participant pause its consent; channels end with their leases."""
        self._paused.add(participant)
        self.brokers[participant].pause()

    def allow(self, participant: str) -> None:
        """Let a participant allow releases again."""
        self.brokers[participant].allow()
        self._paused.discard(participant)

    def allow_all(self) -> None:
        """Let everybody who has paused allow releases again."""
        for name in sorted(self._paused):
            self.allow(name)

    def workload(
        self,
        role: str,
        *,
        connect: str | None = None,
        channel: str = ChannelKind.TLS13_PSK,
        machine: Mapping[str, object] | None = None,
        **settings: str,
    ) -> Workload:
        """Return a new VM, booted; its workload is not started.

        Args:
            role: `server` or `client`.
            connect: client: the server's ciphertext address.
            channel: The kind of channel: `tls13-psk`, `dtls12-psk` or `mtls13`.
            machine: What its tokens say differently: attributes of `SimulatedMachine`.
            settings: Of `workload.toml`: `forward` for a server; `listen`, the plaintext address, for a client.

        Raises:
            SimulatorError: `listen` for a server, whose ciphertext address is `MCBN_LISTEN`: any free port of loopback.
        """
        return self._vm(Role(role), connect, Line("", "", ChannelKind(channel)), machine or {}, settings)[1]

    @contextlib.contextmanager
    def running(
        self,
        role: str,
        *,
        connect: str | None = None,
        channel: str = ChannelKind.TLS13_PSK,
        machine: Mapping[str, object] | None = None,
        **settings: str,
    ) -> Generator[RunningWorkload]:
        """Run `mcbn-workload` on a new VM while the block runs; it is ready when the block begins. See `workload`.

        Raises:
            SimulatorError: It does not get ready; the text has the end of its log.
        """
        vm, one = self._vm(Role(role), connect, Line("", "", ChannelKind(channel)), machine or {}, settings)
        process = self._stage.run(vm.run(one.environment))
        try:
            yield RunningWorkload(process, self._stage)
        finally:
            self._stage.run(self._supervisor.stop(process))

    def _vm(
        self,
        role: Role,
        connect: str | None,
        line: Line,
        machine: Mapping[str, object],
        settings: dict[str, str],
    ) -> tuple[Vm, Workload]:
        if role is Role.SERVER and "listen" in settings:
            raise SimulatorError(
                "listen is a client's plaintext address; a server listens on MCBN_LISTEN of its environment, here "
                "on any free port"
            )
        self._vms += 1
        folder = self._space.vm(str(self._vms))
        described = dataclasses.replace(
            self._agreement.machines[role],
            instance_name=f"{role}-{self._vms}-vm",
            **machine,  # type: ignore[arg-type]  # a machine checks its attributes itself
        )
        vm = Vm(role, described, folder, self._supervisor, self._narrator, line=line)
        vm.install(self.roster, **settings)
        brokers = {broker_variable(name): one.url for name, one in self.brokers.items()}
        environment = {ADDRESS_VARIABLES[role]: connect or _ANY_PORT} | brokers
        self._stage.run(vm.boot(self._space.root / "issuer.sock"))
        return vm, Workload(role, folder / CONFIGURATION, environment, described)


@dataclasses.dataclass(frozen=True)
class _Agreement:
    participants: list[Host]
    roster: bytes
    machines: Mapping[Role, SimulatedMachine]


@contextlib.contextmanager
def network(stage: Backstage, *, lease_seconds: int) -> Generator[Network]:
    """Let three participants agree by their real commands, and run their brokers while the block runs."""
    with workspace(keep=False) as space, stage.inside(supervised(space.logs)) as supervisor:
        agreement = _agreed(space, supervisor, lease_seconds)
        with stage.inside(agreement) as agreed:
            yield Network(space, supervisor, stage, agreed)


@contextlib.asynccontextmanager
async def _agreed(space: Workspace, supervisor: Supervisor, lease_seconds: int) -> AsyncIterator[_Agreement]:
    issuer = await start_issuer(supervisor, space.root / "issuer.sock")
    with people(space, supervisor, Narrator(Console(quiet=True))) as participants:
        ceremony = Ceremony(participants, space.post)
        roster, machines = await ceremony.agree_on_two_images(issuer, lease_seconds=lease_seconds)
        await serve_all(participants)
        yield _Agreement(participants, roster, machines)
