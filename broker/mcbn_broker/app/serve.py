"""Runs one broker until SIGTERM: builds its parts, listens, tells systemd, and finishes what is in flight."""

import asyncio
import contextlib
import gc
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

from mcbn_broker.api.health import create_health
from mcbn_broker.api.routes import create_api
from mcbn_broker.app.listeners import Server, address_of, bind, broker_server, health_server
from mcbn_broker.app.notify import handed_over, notify
from mcbn_broker.app.policy_file import PolicyFile
from mcbn_broker.app.process_limits import forbid_core_dumps, room_for_connections
from mcbn_broker.app.watch import Watch
from mcbn_broker.app.watchdog import feed_watchdog
from mcbn_broker.attestation.confidential_space import (
    LEEWAY_SECONDS,
    MAXIMUM_AGE_SECONDS,
    ConfidentialSpaceVerifier,
)
from mcbn_broker.attestation.fetching import new_client
from mcbn_broker.attestation.key_sets import KeySetLimits, KeySets
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.kek_source import choose_kek
from mcbn_broker.keystore.serve_lock import serve_lock
from mcbn_broker.release.service import ReleaseService, warn_of_unknown_claims
from mcbn_broker.settings import Settings
from mcbn_broker.storage.ledger import GroupLedger
from mcbn_broker.storage.store import Store
from mcbn_broker.telemetry.logs import configure_logs, logger
from mcbn_broker.telemetry.metrics import Metrics


def serve(settings: Settings) -> int:
    """Run the broker until SIGTERM or SIGINT.

    Returns:
        The exit status, 0 after an orderly stop.

    Raises:
        BrokerError: It could not be started; the text says what to do.
    """
    configure_logs(settings.log_level)
    forbid_core_dumps()
    settings = settings.model_copy(update={"connections": room_for_connections(settings.connections)})
    kek = choose_kek(settings.kek, settings.kek_file, settings.kms_endpoint)
    home = Home.unlock(settings.data_dir, kek.load)
    with serve_lock(home.root), Store.open(home, clock=lambda: int(time.time()), thorough=True) as store:
        if store.opened.new_incarnation is not None:
            logger().error("NEW INCARNATION, CONSENT PAUSED", detail=store.opened.new_incarnation)
        with asyncio.Runner(loop_factory=_loop_factory) as runner:
            runner.run(_run(settings, home, store))
    return 0


def _loop_factory() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415  # optional: the extra `speedups`
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _run(settings: Settings, home: Home, store: Store) -> None:
    policy = PolicyFile(home.policy_path)
    listeners = _listeners(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, policy.reload)
    metrics = Metrics()
    async with _service(settings, home, store, policy, metrics) as (service, ledger, key_sets):
        watch = Watch(service, store, key_sets)
        _add_gauges(metrics, watch)
        broker = broker_server(create_api(service, settings, metrics), settings)
        health = health_server(create_health(watch.parts, metrics, key_set_age=watch.key_set_age), settings)
        await watch.look()  # before the key sets are refreshed: else nothing is followed yet, and they wait
        _keep_what_is_there()
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(job)
                for job in (
                    service.housekeeping(),
                    watch.look_forever(),
                    key_sets.refresh_forever(),
                    feed_watchdog(ledger, os.environ),
                )
            ]
            await _listen(tasks, listeners, (broker, health), tls=settings.tls_certificate is not None)
            await stop.wait()
            logger().info("stopping", in_flight=len(broker.server_state.tasks))
            notify("STOPPING=1", os.environ)
            await broker.stop()
            await health.stop()
            for task in background:
                task.cancel()
    logger().info("stopped")


def _keep_what_is_there() -> None:
    """Spare the garbage collector what was made at the start and stays: it would look at it again while releasing."""
    gc.collect()
    gc.freeze()


@contextlib.asynccontextmanager
async def _service(
    settings: Settings, home: Home, store: Store, policy: PolicyFile, metrics: Metrics
) -> AsyncIterator[tuple[ReleaseService, GroupLedger, KeySets]]:
    client = new_client()
    ledger = GroupLedger(store)
    key_sets = KeySets(client, limits=KeySetLimits(), clock=time.monotonic, sleep=asyncio.sleep, jitter=random.random)
    service = ReleaseService(
        participant=home.identity.name,
        roster=home.roster(),
        release_key=home.release_key,
        challenge_key=home.challenge_key,
        store=store,
        ledger=ledger,
        verifier=ConfidentialSpaceVerifier(
            key_sets, maximum_age_seconds=MAXIMUM_AGE_SECONDS, leeway_seconds=LEEWAY_SECONDS
        ),
        policy=policy.current,
        clock=lambda: int(time.time()),
        random=os.urandom,
        challenge_seconds=settings.challenge_seconds,
        on_unknown_claims=partial(_alarm, metrics),
    )
    try:
        yield service, ledger, key_sets
    finally:
        await service.aclose()
        await key_sets.aclose()
        await client.aclose()


def _alarm(metrics: Metrics, names: Sequence[str]) -> None:
    metrics.unknown_claims.inc(len(names))
    warn_of_unknown_claims(names)


def _add_gauges(metrics: Metrics, watch: Watch) -> None:
    metrics.gauge("mcbn_consent", "1 if the participant allows releases, 0 if it has paused.", watch.consent)
    metrics.gauge("mcbn_key_set_age_seconds", "Age of the oldest attestation key set in use.", watch.key_set_age)


def _listeners(settings: Settings) -> tuple[socket.socket, socket.socket]:
    """Return the sockets for workloads and for the operator: handed over, or bound here."""
    sockets = handed_over(os.environ)
    return (
        sockets.get("broker") or bind(settings.listen, option="--listen"),
        sockets.get("health") or bind(settings.health_listen, option="--health-listen"),
    )


async def _listen(
    tasks: asyncio.TaskGroup,
    listeners: tuple[socket.socket, socket.socket],
    servers: tuple[Server, Server],
    *,
    tls: bool,
) -> None:
    addresses = dict(zip(("address", "health"), map(address_of, listeners), strict=True))
    for server, listener in zip(servers, listeners, strict=True):
        tasks.create_task(server.serve(sockets=[listener]))
        await server.listening.wait()
    logger().info("listening", tls=tls, **addresses)
    notify("READY=1", os.environ)
