"""A whole network of real processes for the cold start: three brokers, a server and its application, launchers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.roster import Roster
from mcbn_simulator.demo.ceremony import Ceremony
from mcbn_simulator.demo.images import ADDRESS_VARIABLES, broker_variable
from mcbn_simulator.demo.issuer import start_issuer
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.participants import people, serve_all
from mcbn_simulator.demo.processes import Supervisor, supervised
from mcbn_simulator.demo.together import together
from mcbn_simulator.demo.vms import Vm
from mcbn_simulator.demo.witnesses import named
from mcbn_simulator.demo.workspace import Workspace, workspace

FIRST_BYTE: Final = b"."
_LEASE_SECONDS: Final = 3600  # the server must not renew its lease while the clock runs


@dataclass(frozen=True)
class Network:
    """Everything runs but the client.

    Attributes:
        supervisor: Starts and ends the client.
        roster: Of three participants, all of whom are needed.
        agreed: The manifest.
        client: The client's VM, booted and installed.
        launcher: The socket of its launcher.
        operator: What the client's operator sets: where server and brokers are.
    """

    supervisor: Supervisor
    roster: Roster
    agreed: AgreedManifest
    client: Vm
    launcher: Path
    operator: Mapping[str, str]


@contextlib.asynccontextmanager
async def new_network() -> AsyncIterator[Network]:
    """Set one up with the demo's own pieces; nothing of it is left at the end."""
    with workspace(keep=False) as space:
        async with _application() as application, supervised(space.logs) as supervisor:
            yield await _set_up(space, supervisor, application)


@contextlib.asynccontextmanager
async def _application() -> AsyncIterator[str]:
    """Greet everybody with one byte, from this process; gives `127.0.0.1:PORT`."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(FIRST_BYTE)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _set_up(space: Workspace, supervisor: Supervisor, application: str) -> Network:
    control, narrator = space.root / "issuer.sock", Narrator(Console(quiet=True))
    issuer = await start_issuer(supervisor, control)
    with people(space, supervisor, narrator) as hosts:
        ceremony = Ceremony(hosts, space.post)
        roster, machines = await ceremony.agree_on_two_images(issuer, lease_seconds=_LEASE_SECONDS)
        await serve_all(hosts)
        brokers = {broker_variable(one.name): one.url for one in hosts}
    folders = {role: space.vm(role.value) for role in Role}
    vms = {role: Vm(role, machines[role], folders[role], supervisor, narrator) for role in Role}
    vms[Role.SERVER].install(roster, forward=application)
    vms[Role.CLIENT].install(roster, listen=f"unix:{vms[Role.CLIENT].plain}")
    await together(*(vm.boot(control) for vm in vms.values()))
    server = await vms[Role.SERVER].run({ADDRESS_VARIABLES[Role.SERVER]: "127.0.0.1:0"} | brokers)
    far_end = str((await named(server, "ready")).members["address"])
    parsed = Roster.parse(roster)
    return Network(
        supervisor,
        parsed,
        AgreedManifest.parse((space.post / "bundle.json").read_bytes(), parsed),
        vms[Role.CLIENT],
        folders[Role.CLIENT] / "tee.sock",
        {ADDRESS_VARIABLES[Role.CLIENT]: far_end} | brokers,
    )
