"""Everything that the acts need: three participants who have agreed, their brokers, images, and a place for VMs."""

import contextlib
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mcbn_protocol.identifiers import Role
from mcbn_simulator.compose.layouts import BuiltImage
from mcbn_simulator.demo.application import PAGE
from mcbn_simulator.demo.ceremony import Ceremony
from mcbn_simulator.demo.images import ADDRESS_VARIABLES
from mcbn_simulator.demo.listeners import loopback_listener
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.participants import Host, people, serve_all
from mcbn_simulator.demo.processes import Process, Supervisor
from mcbn_simulator.demo.workspace import Workspace
from mcbn_smoke.agreement import terms
from mcbn_smoke.certificates import Authority
from mcbn_smoke.cloud import Cloud, Order, Site
from mcbn_smoke.collector import Collector, collecting
from mcbn_smoke.images import Builder, build_images

MANIFEST_PATH: Final = "/v1/manifest"


@dataclass(frozen=True)
class Patience:
    """How long things may take, in seconds.

    Attributes:
        boot: From the order of a VM to its first report.
        lease: A lease, which is how long a pause may take to end a channel.
        heal: From a consent that is given again to the next page.
    """

    boot: float
    lease: int
    heal: float


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """With what the stage is set.

    Attributes:
        cloud: Where the VMs run.
        builder: Builds the images.
        patience: How long things may take.
        space: This machine's files.
        supervisor: Runs this machine's programs.
        narrator: Tells what happens.
    """

    cloud: Cloud
    builder: Builder
    patience: Patience
    space: Workspace
    supervisor: Supervisor
    narrator: Narrator


@dataclass(frozen=True)
class Published:
    """An image in the cloud.

    Attributes:
        digest: As a token has it.
        reference: By which the cloud finds it.
    """

    digest: str
    reference: str


@dataclass(kw_only=True)
class Stage:
    """What the acts find.

    Attributes:
        cloud: Where the VMs run.
        site: What is known of it.
        narrator: Tells what happens.
        hosts: The participants, by name; their brokers run here.
        brokers: By participant, the broker's process, which says what it refuses.
        images: Each role's image.
        changed: The client's image with a file more.
        collector: What the VMs report.
        patience: How long things may take.
        addresses: Where each VM is, once it was started.
    """

    cloud: Cloud
    site: Site
    narrator: Narrator
    hosts: Mapping[str, Host]
    brokers: Mapping[str, Process]
    images: Mapping[Role, Published]
    changed: Published
    collector: Collector
    patience: Patience
    addresses: dict[Role, str] = field(default_factory=dict)

    async def start(self, role: Role, image: Published | None = None, *, debug: bool = False) -> None:
        """Start a role's VM, in the place of the one before, with the variables that its operator sets.

        Args:
            role: What its image plays.
            image: By default the one on which everybody agrees.
            debug: Whether it boots the debug image of Confidential Space.
        """
        image = image or self.images[role]
        address = self.site.listen if role is Role.SERVER else self.addresses[Role.SERVER]
        manifest = next(iter(self.hosts.values())).url + MANIFEST_PATH
        variables = {"MCBN_MANIFEST": manifest, ADDRESS_VARIABLES[role]: address}
        self.narrator.step(f"The {role}'s VM is started: {image.digest}")
        self.addresses[role] = await self.cloud.start(Order(role, image.reference, variables, debug))

    async def records(self, name: str, **members: Any) -> list[dict[str, Any]]:
        """Return those of the last records of a participant's audit in which these members have these values."""
        tail = await self.hosts[name].types("audit", "tail", "-n", "50", "--output", "json", shown=False)
        records = [one["record"] for one in json.loads("\n".join(tail.printed))["records"]]
        return [one for one in records if members.items() <= one.items()]


@contextlib.asynccontextmanager
async def staged(workshop: Workshop) -> AsyncGenerator[Stage]:
    """Set the stage. What the cloud makes is not undone here.

    Raises:
        DemoError: Something cannot be made, or a command fails.
    """
    space, narrator = workshop.space, workshop.narrator
    with people(space, workshop.supervisor, narrator) as hosts, loopback_listener() as listener:
        port = listener.getsockname()[1]
        narrator.act("A place for two VMs")
        site = await workshop.cloud.open([*(one.port for one in hosts), port])
        authority = _addressed(hosts, site, space)
        served = authority.serve(space.desk("reports"))
        place = {"host": site.host, "port": site.ports[port], "ca": authority.certificate.decode(), "page": PAGE}
        async with collecting(listener, served.certificate, served.key) as collector:
            narrator.act("Alice, Bob and Carol agree (each types what Alice types)")
            images, changed = await _agreed(workshop, hosts, site, place)
            brokers = await serve_all(hosts, "--tls-certificate", "tls.pem", "--tls-key", "tls.key")
            yield Stage(
                cloud=workshop.cloud,
                site=site,
                narrator=narrator,
                hosts={one.name: one for one in hosts},
                brokers=brokers,
                images=images,
                changed=changed,
                collector=collector,
                patience=workshop.patience,
            )


def _addressed(hosts: Sequence[Host], site: Site, space: Workspace) -> Authority:
    """Say where the VMs find each broker, and give it a certificate for that."""
    authority = Authority(site.host)
    (space.post / "ca.pem").write_bytes(authority.certificate)
    for one in hosts:
        one.url = f"https://{site.host}:{site.ports[one.port]}"
        authority.serve(one.desk)
    return authority


async def _agreed(
    workshop: Workshop, hosts: Sequence[Host], site: Site, place: Mapping[str, Any]
) -> tuple[dict[Role, Published], Published]:
    """Roster, images, manifest, in this order; returns each role's image, and the changed one."""
    space = workshop.space
    ceremony = Ceremony(hosts, space.post)
    roster = space.post / "roster.json"
    roster.write_bytes(await ceremony.introduce())
    layouts = await build_images(workshop.builder, roster, place, space.root / "images", workshop.supervisor)
    images = {role: BuiltImage.read(layout) for role, layout in layouts.roles.items()}
    for role, image in images.items():
        workshop.narrator.step(f"Everybody builds the {role}'s image from the roster: {image.digest}")
    await ceremony.agree(terms(site, images, lease_seconds=workshop.patience.lease))
    published = {role: await _published(workshop.cloud, layout) for role, layout in layouts.roles.items()}
    return published, await _published(workshop.cloud, layouts.changed)


async def _published(cloud: Cloud, layout: Path) -> Published:
    return Published(BuiltImage.read(layout).digest, await cloud.publish(layout, layout.name))
