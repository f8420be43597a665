"""An error that is kept and raised again does not hold the frames of all whom it was raised to, with their locals."""

import traceback
from collections.abc import Awaitable, Callable

import pytest

from mcbn_protocol.identifiers import Role
from mcbn_protocol.secret import Secret
from mcbn_workload.channels.datagrams import DatagramChannel
from mcbn_workload.channels.dtls_psk import DtlsPskClient
from mcbn_workload.channels.registry import ChannelRegistry, Limits
from mcbn_workload.channels.streams import Channel
from mcbn_workload.channels.tls_psk import TlsPskClient
from mcbn_workload.endpoints import connect
from mcbn_workload.epoch_keys.ring import KeyRing
from mcbn_workload.errors import NoKeysError, WorkloadError
from mcbn_workload.settings import Operator
from mcbn_workload.tunnel.plain import PlainStream

RAISED = 20
IDENTITY, KEY = "mcbn1.AAECAwQFBgcICQoLDA0ODw", Secret(bytes(range(32)))


async def frames_do_not_add_up(attempt: Callable[[], Awaitable[object]]) -> None:
    """Fail often, and see what the error that is raised holds each time."""
    depths, errors = [], []
    for _ in range(RAISED):
        with pytest.raises(WorkloadError) as caught:
            await attempt()
        depths.append(len(list(traceback.walk_tb(caught.value.__traceback__))))
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == 1, "it is one error that is kept"
    assert len(set(depths)) == 1


@pytest.fixture
def ring(network):
    return KeyRing(network.gatherer(), network.names, clock=network.time.clock, patience=network.patience())


async def test_a_ring_without_keys(ring):
    async def guarded() -> None:
        ring.guard()

    await frames_do_not_add_up(guarded)


async def test_a_connection_during_a_pause(network, ring):
    operator = Operator(brokers={}, connect=("127.0.0.1", 9))
    settings = network.settings(role=Role.CLIENT, operator=operator)

    async def connected() -> None:
        async with connect(settings, keys=ring):
            pass

    await frames_do_not_add_up(connected)


async def test_a_channel_that_has_ended():
    channel = Channel(
        TlsPskClient(IDENTITY, KEY)(), limits=Limits(), guard=lambda _identity: None, registry=ChannelRegistry()
    )
    channel.abort(NoKeysError("the lease has ended"))
    await frames_do_not_add_up(channel.read)
    await frames_do_not_add_up(lambda: channel.write(b"more"))


async def test_a_channel_that_its_guard_ends():
    def guard(identity: str | None) -> None:
        del identity
        channel.abort(NoKeysError("the lease has ended"))

    channel = Channel(TlsPskClient(IDENTITY, KEY)(), limits=Limits(), guard=guard, registry=ChannelRegistry())
    await frames_do_not_add_up(channel.read)


async def test_a_datagram_channel_that_has_ended():
    channel = DatagramChannel(
        DtlsPskClient(IDENTITY, KEY)(),
        lambda _datagram: None,
        peer="nobody",
        limits=Limits(),
        guard=lambda _identity: None,
        registry=ChannelRegistry(),
        ended=lambda _channel: None,
    )
    channel.abort(NoKeysError("the lease has ended"))
    await frames_do_not_add_up(channel.receive)

    async def sent() -> None:
        channel.send(b"more")

    await frames_do_not_add_up(sent)


async def test_an_applications_connection_that_was_aborted():
    plain = PlainStream()
    plain.abort(NoKeysError("the lease has ended"))
    await frames_do_not_add_up(plain.read)
