"""One project of Google Cloud, by the scripts in `deploy/gcloud`, with a relay to this machine beside the two VMs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import PRODUCTION_ISSUER
from mcbn_simulator.demo.processes import script
from mcbn_smoke.cloud import Order, Site
from mcbn_smoke.errors import LeftBehindError, SmokeError
from mcbn_smoke.gcloud.programs import Programs
from mcbn_smoke.gcloud.relay import IAP_RANGE, Relay, remote_ports

HARDWARE: Final = {"SEV": "GCP_AMD_SEV", "TDX": "GCP_INTEL_TDX"}
"""What can be ordered, and what a token says of it."""

CHANNEL_PORT: Final = 7443
SCRIPTS: Final = Path(__file__).resolve().parents[2] / "gcloud"
_SUBNET: Final = "10.77.0.0/28"
_REGISTRY_USER: Final = "oauth2accesstoken"
_LOG_LINES: Final = 30


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be made, and where.

    Attributes:
        project: The project's id.
        zone: Which zone of Compute Engine.
        hardware: `SEV` or `TDX`.
        debug: Whether to boot the debug image of Confidential Space.
        name: The beginning of every name, of this run alone.
    """

    project: str
    zone: str
    hardware: str
    debug: bool
    name: str

    @property
    def region(self) -> str:
        """The zone's region."""
        return self.zone.rpartition("-")[0]

    @property
    def in_zone(self) -> tuple[str, ...]:
        """The options that name project and zone."""
        return f"--project={self.project}", f"--zone={self.zone}"


class GoogleCloud:
    """A place for VMs in a project.

    Args:
        plan: What is made.
        folder: For keys and tokens of this run, mode 0700.
        programs: Runs gcloud.
    """

    def __init__(self, plan: Plan, folder: Path, programs: Programs) -> None:
        self._plan = plan
        self._folder = folder
        self._programs = programs
        self._relay = Relay(f"{plan.name}-relay", plan.in_zone, folder, programs)
        self._begun = False
        self._started: set[Role] = set()

    async def open(self, ports: Sequence[int]) -> Site:
        """Make network, accounts, repository and relay."""
        plan = self._plan
        number = await self._gcloud("projects", "describe", plan.project, "--format=value(projectNumber)")
        self._begun = True
        await self._gcloud("services", "enable", "iap.googleapis.com", f"--project={plan.project}", "--quiet")
        await self._script(
            "prepare", *self._named(), "--repository", plan.name, "--range", _SUBNET, "--source-range", _SUBNET
        )
        remote = remote_ports(ports)
        host = await self._start_relay(sorted(remote.values()))
        await self._relay.connect(remote)
        return Site(
            issuer=PRODUCTION_ISSUER,
            project_number=number,
            hwmodel=HARDWARE[plan.hardware],
            debug=plan.debug,
            host=host,
            ports=remote,
            listen=f"0.0.0.0:{CHANNEL_PORT}",
        )

    async def publish(self, layout: Path, name: str) -> str:
        """Push an image to the run's own repository, with an access token of gcloud's that is in no argument."""
        token = await self._programs.run("gcloud", "auth", "print-access-token", "--quiet")
        file = self._folder / "token"
        file.touch(mode=0o600)
        file.write_text(token + "\n", encoding="ascii")
        target = f"{self._plan.region}-docker.pkg.dev/{self._plan.project}/{self._plan.name}/{name}"
        try:
            said = await self._programs.run(
                script("mcbn-images"),
                *("push", layout, target, "--username", _REGISTRY_USER, "--password-file", file, "--output", "json"),
            )
        finally:
            file.unlink()
        return str(json.loads(said)["image"])

    async def start(self, order: Order) -> str:
        """Start a Confidential Space VM; its address is that in the run's own network."""
        settings = [word for name, value in order.environment.items() for word in ("--env", f"{name}={value}")]
        if order.role in self._started:
            name = f"{self._plan.name}-{order.role}"
            await self._gcloud("compute", "instances", "delete", name, *self._plan.in_zone, "--quiet")
        self._started.add(order.role)
        address = await self._script(
            "create-vm",
            *(*self._named(), "--role", order.role.value, "--image", order.image, "--hardware", self._plan.hardware),
            *(["--debug"] if self._plan.debug or order.debug else []),
            *settings,
        )
        return f"{address}:{CHANNEL_PORT}" if order.role is Role.SERVER else address

    async def log(self, role: Role) -> Sequence[str]:
        """Return the end of a VM's serial console: the launcher's words, and with the debug image the workload's."""
        try:
            name = f"{self._plan.name}-{role}"
            said = await self._gcloud("compute", "instances", "get-serial-port-output", name, *self._plan.in_zone)
        except SmokeError as error:
            return error.log
        return said.splitlines()[-_LOG_LINES:]

    async def close(self) -> None:
        """Delete relay, firewall, VMs, network, repository and account; what is not there is no failure."""
        await self._relay.close()
        if not self._begun:
            return
        plan, project = self._plan, f"--project={self._plan.project}"
        commands: list[tuple[str | Path, ...]] = [
            ("gcloud", "compute", "instances", "delete", f"{plan.name}-relay", *plan.in_zone, "--quiet"),
            ("gcloud", "compute", "firewall-rules", "delete", f"{plan.name}-relay", project, "--quiet"),
            ("gcloud", "compute", "firewall-rules", "delete", f"{plan.name}-iap", project, "--quiet"),
            (SCRIPTS / "remove", *self._named(), "--repository", plan.name),
        ]
        left = [command for command in commands if not await self._deleted(*command)]
        if left:
            raise LeftBehindError([" ".join(map(str, command)) for command in left])

    async def _deleted(self, program: str | Path, *arguments: str | Path) -> bool:
        try:
            await self._programs.run(program, *arguments)
        except SmokeError as error:
            return any("not found" in line.lower() for line in error.log) and program == "gcloud"
        return True

    async def _start_relay(self, ports: Sequence[int]) -> str:
        """Start the relay's VM, reachable by SSH from Identity-Aware Proxy and at these ports from the subnet."""
        name, project = self._plan.name, f"--project={self._plan.project}"
        rules = {"relay": (_SUBNET, ",".join(f"tcp:{port}" for port in ports)), "iap": (IAP_RANGE, "tcp:22")}
        for suffix, (source, allowed) in rules.items():
            await self._gcloud(
                *("compute", "firewall-rules", "create", f"{name}-{suffix}", project, "--quiet"),
                *(f"--network={name}", "--direction=INGRESS", "--action=ALLOW", f"--rules={allowed}"),
                *(f"--source-ranges={source}", f"--target-tags={name}-relay"),
            )
        return await self._gcloud(
            *("compute", "instances", "create", f"{name}-relay", *self._plan.in_zone, "--quiet"),
            *("--machine-type=e2-micro", "--image-project=debian-cloud", "--image-family=debian-12"),
            *("--shielded-secure-boot", "--no-service-account", "--no-scopes", f"--tags={name}-relay"),
            *(f"--network-interface=subnet={name},no-address", "--metadata=block-project-ssh-keys=TRUE"),
            f"--metadata-from-file=startup-script={await self._relay.startup_script()}",
            "--format=value(networkInterfaces[0].networkIP)",
        )

    def _named(self) -> tuple[str, ...]:
        return "--project", self._plan.project, "--zone", self._plan.zone, "--name", self._plan.name

    async def _gcloud(self, *arguments: str) -> str:
        return await self._programs.run("gcloud", *arguments)

    async def _script(self, name: str, *arguments: str) -> str:
        return await self._programs.run(SCRIPTS / name, *arguments)
