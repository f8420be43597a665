"""The two services: the server's and the client's end of the tunnel, from the first share to the last byte."""

import logging
from typing import Final

from mcbn_protocol.identifiers import Role
from mcbn_workload.app.stopping import Stopping
from mcbn_workload.channels.tls_psk import TlsPskServer
from mcbn_workload.endpoints import channel_limits, open_keys
from mcbn_workload.settings import Settings, require
from mcbn_workload.tunnel.addresses import parse_plain_address
from mcbn_workload.tunnel.ends import TunnelClient, TunnelServer, connect_tunnel, serve_tunnel

_log: Final = logging.getLogger("mcbn.workload.app")

GRACE_SECONDS: Final = 5.0


async def serve(settings: Settings, stopping: Stopping) -> None:
    """Run the server's end until a signal comes.

    Raises:
        ConfigurationError: Settings that do not fit; nothing was started.
        NoKeysError: The gathering at the start was not complete.
    """
    settings.require_role(Role.SERVER)
    target = parse_plain_address(require(settings.forward, "forward"))
    host, port = require(settings.operator.listen, "MCBN_LISTEN")
    async with (
        open_keys(settings) as keys,
        serve_tunnel(
            host,
            port,
            target,
            TlsPskServer(keys.lookup),
            guard=keys.guard,
            registry=keys.registry,
            limits=channel_limits(settings),
        ) as tunnel,
    ):
        await _run(tunnel, stopping, Role.SERVER, _text(tunnel.addresses[0]), forward=str(target))


async def connect(settings: Settings, stopping: Stopping) -> None:
    """Run the client's end until a signal comes.

    Raises:
        ConfigurationError: Settings that do not fit; nothing was started.
        NoKeysError: The gathering at the start was not complete.
    """
    settings.require_role(Role.CLIENT)
    address = parse_plain_address(require(settings.listen, "listen"))
    far_end = require(settings.operator.connect, "MCBN_CONNECT")
    async with (
        open_keys(settings) as keys,
        connect_tunnel(
            address,
            far_end,
            keys.client_engine,
            guard=keys.guard,
            registry=keys.registry,
            limits=channel_limits(settings),
        ) as tunnel,
    ):
        await _run(tunnel, stopping, Role.CLIENT, tunnel.addresses[0], connect=_text(far_end))


async def _run(tunnel: TunnelServer | TunnelClient, stopping: Stopping, role: Role, address: str, **more: str) -> None:
    _log.info("listening on %s", address, extra={"event": "ready", "role": role.value, "address": address} | more)
    await stopping.wait()
    _log.info("stopping", extra={"event": "stopping"})
    await tunnel.aclose(GRACE_SECONDS)


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
