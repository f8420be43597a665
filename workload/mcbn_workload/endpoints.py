"""The public interface for Python applications: keys that renew themselves, and channels under them."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Final, TypedDict

from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import AgreedManifest, ChannelKind
from mcbn_workload.attester.confidential_space import ConfidentialSpace
from mcbn_workload.brokers.addresses import Connector
from mcbn_workload.brokers.gatherer import Gatherer
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.brokers.quorum import Patience
from mcbn_workload.channels.attempts import newest_first
from mcbn_workload.channels.datagram_listener import DatagramServer, serve_datagram_channels
from mcbn_workload.channels.datagrams import DatagramChannel, open_datagram_channel
from mcbn_workload.channels.listener import ChannelServer, serve_channels
from mcbn_workload.channels.psk import Watch
from mcbn_workload.channels.registry import ChannelRegistry, Guard, Limits
from mcbn_workload.channels.streams import Channel, open_channel
from mcbn_workload.epoch_keys.engines import psk_engines
from mcbn_workload.epoch_keys.mutual_tls import MutualTlsOpener
from mcbn_workload.epoch_keys.openers import Opener, PskOpener, WatchMaker, no_watch
from mcbn_workload.epoch_keys.ring import KeyRing
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.kinds import DATAGRAM_CHANNELS, EngineName
from mcbn_workload.settings import Settings, require

_log: Final = logging.getLogger("mcbn.workload.keys")

SettingsOrPath = Settings | Path | str


def load_settings(settings: SettingsOrPath) -> Settings:
    """Return settings as they are, or read them from a configuration file and the environment.

    Raises:
        ConfigurationError: The file does not fit.
    """
    return settings if isinstance(settings, Settings) else Settings.load(settings)


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


def new_opener(settings: Settings, clock: Clock) -> Opener:
    """Return what derives the keys of these settings' channel.

    Raises:
        ConfigurationError: The files of a CA are none.
        EngineUnavailableError: The engine's library is not installed.
    """
    watch = new_watch(settings)
    if settings.channel is ChannelKind.MTLS13:
        return MutualTlsOpener(settings.role, settings.mutual_tls, clock, watch)
    engines = psk_engines(settings.channel, settings.engine, mtu=settings.mtu)
    return PskOpener(settings.channel, engines, watch)


def new_watch(settings: Settings) -> WatchMaker:
    """Return what says whether channels may be read along: the image's configuration and the manifest must both.

    Raises:
        ConfigurationError: This image or its engine has no key log, or its file cannot be written.
    """
    if settings.key_log is None:
        return no_watch
    if settings.engine is EngineName.MBEDTLS:
        raise ConfigurationError(
            f"the engine {settings.engine} cannot write a key log: use engine = {EngineName.PYOPENSSL.value!r}"
        )
    try:
        module = import_module("mcbn_workload.key_log")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            "this image was built without the key log: take key_log out, or build another"
        ) from error
    watch: Watch = module.key_log(settings.key_log)

    def allowed(agreed: AgreedManifest) -> Watch:
        if not agreed.manifest.key_log:
            raise ConfigurationError(
                f"this image's configuration says key_log, but the manifest of epoch {agreed.manifest.epoch} does not: "
                "agree on a manifest or an image that fits the other"
            )
        _log.warning(
            "KEY LOG: the secrets of all channels are written to a file",
            extra={"event": "key_log", "epoch": agreed.manifest.epoch},
        )
        return watch

    return allowed


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
    opener = new_opener(settings, clock)
    ring = KeyRing(source, settings.roster.names, clock=clock, patience=patience, opener=opener)
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
    """Open one channel over TCP to the far end (`MCBN_CONNECT`) while the block runs.

    Args:
        settings: A client's settings, or the path of its configuration file.
        keys: What `open_keys` gave, to open many channels under the same keys; None gathers for this one.

    Raises:
        ConfigurationError: Settings that do not fit.
        NoKeysError: See `open_keys`.
        ChannelError: No channel to the far end.
    """
    settings = load_settings(settings)
    _require_transport(settings, datagrams=False)
    settings.require_role(Role.CLIENT)
    host, port = require(settings.operator.connect, "MCBN_CONNECT")
    async with AsyncExitStack() as stack:
        ring = await _keys(stack, keys, settings)
        owned = _owned(ring, settings)
        channel = await newest_first(
            lambda factory: open_channel(host, port, factory, **owned), ring.client_engine, ring.older_client_engine
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
    _require_transport(settings, datagrams=False)
    settings.require_role(Role.SERVER)
    host, port = require(settings.operator.listen, "MCBN_LISTEN")
    async with AsyncExitStack() as stack:
        ring = await _keys(stack, keys, settings)
        yield await stack.enter_async_context(
            serve_channels(
                host,
                port,
                ring.server_engines(),
                handler,
                **_owned(ring, settings),
            )
        )


@asynccontextmanager
async def connect_datagrams(settings: SettingsOrPath, *, keys: KeyRing | None = None) -> AsyncIterator[DatagramChannel]:
    """Open one channel over UDP to the far end; see `connect`."""
    settings = load_settings(settings)
    _require_transport(settings, datagrams=True)
    settings.require_role(Role.CLIENT)
    host, port = require(settings.operator.connect, "MCBN_CONNECT")
    async with AsyncExitStack() as stack:
        ring = await _keys(stack, keys, settings)
        owned = _owned(ring, settings)
        channel = await newest_first(
            lambda factory: open_datagram_channel(host, port, factory, **owned),
            ring.datagram_client_engine,
            ring.older_datagram_client_engine,
        )
        yield await stack.enter_async_context(channel)


@asynccontextmanager
async def listen_datagrams(
    handler: Callable[[DatagramChannel], Awaitable[None]], settings: SettingsOrPath, *, keys: KeyRing | None = None
) -> AsyncIterator[DatagramServer]:
    """Accept channels over UDP while the block runs; see `listen`."""
    settings = load_settings(settings)
    _require_transport(settings, datagrams=True)
    settings.require_role(Role.SERVER)
    host, port = require(settings.operator.listen, "MCBN_LISTEN")
    async with AsyncExitStack() as stack:
        ring = await _keys(stack, keys, settings)
        yield await stack.enter_async_context(
            serve_datagram_channels(
                host,
                port,
                ring.acceptor(),
                handler,
                **_owned(ring, settings),
            )
        )


class _Owned(TypedDict):
    guard: Guard
    registry: ChannelRegistry
    limits: Limits


def _owned(ring: KeyRing, settings: Settings) -> _Owned:
    return {"guard": ring.guard, "registry": ring.registry, "limits": channel_limits(settings)}


def _require_transport(settings: Settings, *, datagrams: bool) -> None:
    if (settings.channel in DATAGRAM_CHANNELS) != datagrams:
        other = "connect and listen" if datagrams else "connect_datagrams and listen_datagrams"
        raise ConfigurationError(f"this image's channel is {settings.channel}: use {other}")


async def _keys(stack: AsyncExitStack, keys: KeyRing | None, settings: Settings) -> KeyRing:
    return await stack.enter_async_context(open_keys(settings)) if keys is None else keys
