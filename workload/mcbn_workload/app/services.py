"""The two services: the server's and the client's end of the tunnel, from the first share to the last byte."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Final, Protocol

from mcbn_protocol.identifiers import Role
from mcbn_workload.app.process_limits import room_for_connections
from mcbn_workload.app.stopping import Stopping
from mcbn_workload.application import Application, run_application
from mcbn_workload.channels.registry import Limits
from mcbn_workload.endpoints import channel_limits, open_keys
from mcbn_workload.epoch_keys.ring import KeyRing
from mcbn_workload.kinds import DATAGRAM_CHANNELS
from mcbn_workload.settings import Settings, require
from mcbn_workload.tunnel.addresses import PlainAddress, parse_plain_address
from mcbn_workload.tunnel.datagram_ends import (
    DatagramTunnelClient,
    DatagramTunnelServer,
    connect_datagram_tunnel,
    serve_datagram_tunnel,
)
from mcbn_workload.tunnel.ends import TunnelClient, TunnelServer, connect_tunnel, serve_tunnel

_log: Final = logging.getLogger("mcbn.workload.app")

GRACE_SECONDS: Final = 5.0


async def serve(settings: Settings, stopping: Stopping) -> None:
    """Run the server's end until a signal comes or its application ends.

    Raises:
        ConfigurationError: Settings that do not fit; nothing was started.
        NoKeysError: The gathering at the start was not complete.
        ApplicationError: The application could not be started, or it failed.
    """
    settings.require_role(Role.SERVER)
    target = parse_plain_address(require(settings.forward, "forward"))
    host, port = require(settings.operator.listen, "MCBN_LISTEN")
    async with (
        open_keys(settings) as keys,
        _server_end(settings, keys, host, port, target) as tunnel,
        _beside(settings, stopping) as application,
    ):
        await _run(tunnel, application, stopping, Role.SERVER, _text(tunnel.addresses[0]), forward=str(target))


async def connect(settings: Settings, stopping: Stopping) -> None:
    """Run the client's end until a signal comes or its application ends.

    Raises:
        ConfigurationError: Settings that do not fit; nothing was started.
        NoKeysError: The gathering at the start was not complete.
        ApplicationError: The application could not be started, or it failed.
    """
    settings.require_role(Role.CLIENT)
    address = parse_plain_address(require(settings.listen, "listen"))
    far_end = require(settings.operator.connect, "MCBN_CONNECT")
    async with (
        open_keys(settings) as keys,
        _client_end(settings, keys, address, far_end) as tunnel,
        _beside(settings, stopping) as application,
    ):
        await _run(tunnel, application, stopping, Role.CLIENT, tunnel.addresses[0], connect=_text(far_end))


def _server_end(
    settings: Settings, keys: KeyRing, host: str, port: int, target: PlainAddress
) -> AbstractAsyncContextManager[TunnelServer | DatagramTunnelServer]:
    limits = _limits(settings)
    if settings.channel in DATAGRAM_CHANNELS:
        return serve_datagram_tunnel(
            host, port, target, keys.acceptor(), guard=keys.guard, registry=keys.registry, limits=limits
        )
    return serve_tunnel(
        host, port, target, keys.server_engines(), guard=keys.guard, registry=keys.registry, limits=limits
    )


def _client_end(
    settings: Settings, keys: KeyRing, address: PlainAddress, far_end: tuple[str, int]
) -> AbstractAsyncContextManager[TunnelClient | DatagramTunnelClient]:
    limits = _limits(settings)
    if settings.channel in DATAGRAM_CHANNELS:
        return connect_datagram_tunnel(
            address,
            far_end,
            keys.datagram_client_engine,
            guard=keys.guard,
            registry=keys.registry,
            limits=limits,
            older=keys.older_datagram_client_engine,
        )
    return connect_tunnel(
        address,
        far_end,
        keys.client_engine,
        guard=keys.guard,
        registry=keys.registry,
        limits=limits,
        older=keys.older_client_engine,
    )


def _limits(settings: Settings) -> Limits:
    limits = channel_limits(settings)
    return replace(limits, connections=room_for_connections(limits.connections))


class _Tunnel(Protocol):
    async def aclose(self, grace: float) -> None: ...


@asynccontextmanager
async def _beside(settings: Settings, stopping: Stopping) -> AsyncIterator[Application | None]:
    """Run the application, if this image has one, while the block runs."""
    if settings.application is None:
        yield None
        return
    async with run_application(settings.application, stopping.ask) as application:
        yield application


async def _run(
    tunnel: _Tunnel, application: Application | None, stopping: Stopping, role: Role, address: str, **more: str
) -> None:
    _log.info("listening on %s", address, extra={"event": "ready", "role": role.value, "address": address} | more)
    await stopping.wait()
    _log.info("stopping", extra={"event": "stopping"})
    ends = [tunnel] if application is None else [tunnel, application]
    await asyncio.gather(*(end.aclose(GRACE_SECONDS) for end in ends))
    if application is not None:
        application.check()


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
