"""The public interface for Python applications: keys that renew themselves, and channels under them."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from mcbn_protocol.identifiers import Role
from mcbn_workload.attester.confidential_space import ConfidentialSpace
from mcbn_workload.brokers.addresses import Connector
from mcbn_workload.brokers.gatherer import Gatherer
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.brokers.quorum import Patience
from mcbn_workload.channels.listener import ChannelServer, serve_channels
from mcbn_workload.channels.streams import Channel, Limits, open_channel
from mcbn_workload.channels.tls_psk import TlsPskServer
from mcbn_workload.epoch_keys.ring import KeyRing
from mcbn_workload.settings import Settings, require

SettingsOrPath = Settings | Path | str


def load_settings(settings: SettingsOrPath) -> Settings:
    """Return settings as they are, or read them from a configuration file and the environment.

    Raises:
        ConfigurationError: The file does not fit.
    """
    return settings if isinstance(settings, Settings) else Settings.load(Path(settings))


def new_gatherer(settings: Settings, clock: Clock, patience: Patience) -> Gatherer:
    """Return the brokers of these settings, with the launcher of this VM as the attester."""
    attester = ConfidentialSpace(settings.launcher_socket, deadline_seconds=settings.deadlines.request_seconds)
    return Gatherer(settings, attester, clock=clock, patience=patience, connector=Connector())


def new_patience(settings: Settings) -> Patience:
    """Return the deadlines of these settings, with jitter from the operating system."""
    return Patience(
        gather_seconds=settings.deadlines.gather_seconds,
        jitter=random.SystemRandom().random,
    )


def channel_limits(settings: Settings) -> Limits:
    """Return the limits of one end's channels."""
    return Limits(handshake_seconds=settings.deadlines.handshake_seconds)


@asynccontextmanager
async def open_keys(settings: SettingsOrPath) -> AsyncIterator[KeyRing]:
    """Gather all shares, then hold and renew the keys while the block runs; at its end they are forgotten.

    Raises:
        ConfigurationError: Settings that do not fit.
        NoKeysError: The gathering was not complete by its deadline; it names who is missing and why.
    """
    settings = load_settings(settings)
    clock, patience = Clock(), new_patience(settings)
    source = new_gatherer(settings, clock, patience)
    ring = KeyRing(source, settings.roster.names, clock=clock, patience=patience)
    await ring.start()
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        renewal = group.create_task(ring.run())
        try:
            yield ring
        except Exception as error:  # noqa: BLE001  # carried around the group, which would wrap the caller's exception
            failure = error
        finally:
            renewal.cancel()
            ring.stop()
    if failure is not None:
        raise failure


@asynccontextmanager
async def connect(settings: SettingsOrPath, *, keys: KeyRing | None = None) -> AsyncIterator[Channel]:
    """Open one channel to the far end (`MCBN_CONNECT`) while the block runs.

    Args:
        settings: A client's settings, or the path of its configuration file.
        keys: What `open_keys` gave, to open many channels under the same keys; None gathers for this one.

    Raises:
        ConfigurationError: Settings that do not fit.
        NoKeysError: See `open_keys`.
        ChannelError: No channel to the far end.
    """
    settings = load_settings(settings)
    settings.require_role(Role.CLIENT)
    host, port = require(settings.operator.connect, "MCBN_CONNECT")
    async with AsyncExitStack() as stack:
        ring = await _keys(stack, keys, settings)
        channel = await open_channel(
            host,
            port,
            ring.client_engine,
            guard=ring.guard,
            registry=ring.registry,
            limits=channel_limits(settings),
        )
        yield await stack.enter_async_context(channel)


@asynccontextmanager
async def listen(
    handler: Callable[[Channel], Awaitable[None]], settings: SettingsOrPath, *, keys: KeyRing | None = None
) -> AsyncIterator[ChannelServer]:
    """Accept channels on `MCBN_LISTEN` while the block runs; `handler` gets each one once its peer is authenticated.

    Args:
        handler: Serves one channel, which is closed when it returns.
        settings: A server's settings, or the path of its configuration file.
        keys: What `open_keys` gave; None gathers for this listener.

    Raises:
        ConfigurationError: Settings that do not fit, or an address that cannot be used.
        NoKeysError: See `open_keys`.
    """
    settings = load_settings(settings)
    settings.require_role(Role.SERVER)
    host, port = require(settings.operator.listen, "MCBN_LISTEN")
    async with AsyncExitStack() as stack:
        ring = await _keys(stack, keys, settings)
        yield await stack.enter_async_context(
            serve_channels(
                host,
                port,
                TlsPskServer(ring.lookup),
                handler,
                guard=ring.guard,
                registry=ring.registry,
                limits=channel_limits(settings),
            )
        )


async def _keys(stack: AsyncExitStack, keys: KeyRing | None, settings: Settings) -> KeyRing:
    return await stack.enter_async_context(open_keys(settings)) if keys is None else keys
