"""A channel that ends while the tunnel waits for the application: nothing of it stays."""

import asyncio
import errno
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import wire
from mcbn_workload.channels.datagram_listener import serve_datagram_channels
from mcbn_workload.channels.datagrams import open_datagram_channel
from mcbn_workload.channels.dtls_psk import DtlsPskClient, DtlsPskServer
from mcbn_workload.channels.ended_engine import EndedEngine
from mcbn_workload.channels.errors import ChannelClosedError, HandshakeTimeoutError
from mcbn_workload.channels.listener import serve_channels
from mcbn_workload.channels.registry import ChannelRegistry
from mcbn_workload.channels.streams import open_channel
from mcbn_workload.channels.tls_psk import TlsPskClient, TlsPskServer
from mcbn_workload.channels.wire import UNREAD_BYTES_MAX, Wire
from mcbn_workload.errors import WorkloadError
from mcbn_workload.tunnel import forwarding
from mcbn_workload.tunnel.addresses import LoopbackAddress
from mcbn_workload.tunnel.ends import connect_tunnel, serve_tunnel
from mcbn_workload.tunnel.plain import PlainStream

IDENTITY = "mcbn1.AAECAwQFBgcICQoLDA0ODw"
OTHER = {"near": "far", "far": "near"}
CAUSES = ("lease", "reset")
RESET = {errno.ECONNRESET, errno.EPIPE}
"""What a socket says after RST: EPIPE where FIN came before."""


class LeaseEndedError(WorkloadError):
    code = "lease_ended"


class Key(Secret):
    """A secret that can be watched: it has no slots."""


class Pair:
    """Both ends of a tunnel with one connection, and its applications as bare sockets that do nothing by themselves."""

    def __init__(self) -> None:
        self.registries = {"near": ChannelRegistry(), "far": ChannelRegistry()}
        self.keys = {name: Key(bytes(32)) for name in OTHER}
        self.factories: dict[str, Callable[[], Any]] = {
            "near": TlsPskClient(IDENTITY, self.keys["near"]),
            "far": TlsPskServer({IDENTITY.encode(): self.keys["far"]}.get),
        }
        self.ends: dict[str, Any] = {}
        self.applications: dict[str, socket.socket] = {}

    def new_engine(self, name: str) -> Any:
        return self.factories[name]()

    def slots(self, name: str) -> int:
        end = self.ends[name]
        return len(end._open) if name == "near" else end._server.open_channels

    def channel(self, name: str) -> Any:
        (channel,) = self.registries[name]
        return channel

    def forget_key(self, name: str) -> "weakref.ref[Key]":
        """Let the key go as its owner does, and say how to see whether anybody else holds it."""
        watched = weakref.ref(self.keys.pop(name))
        del self.factories[name]
        return watched

    def reset(self, name: str) -> bool:
        return self.applications[name].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in RESET


@pytest.fixture
def connected(owned: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    monkeypatch.setattr(wire, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(forwarding, "CLOSE_SECONDS", 0.001)

    @asynccontextmanager
    async def run() -> AsyncIterator[Pair]:
        loop, pair, local = asyncio.get_running_loop(), Pair(), LoopbackAddress("127.0.0.1", 0)
        with socket.create_server(("127.0.0.1", 0)) as service, socket.socket() as near:
            service.setblocking(False)
            near.setblocking(False)
            async with (
                serve_tunnel(
                    "127.0.0.1",
                    0,
                    LoopbackAddress(*service.getsockname()),
                    lambda: pair.new_engine("far"),
                    **owned(registry=pair.registries["far"]),
                ) as far_end,
                connect_tunnel(
                    local,
                    far_end.addresses[0],
                    lambda: pair.new_engine("near"),
                    **owned(registry=pair.registries["near"]),
                ) as near_end,
            ):
                host, port = near_end.addresses[0].split(":")
                await loop.sock_connect(near, (host, int(port)))
                far, _address = await loop.sock_accept(service)
                with far:
                    far.setblocking(False)
                    pair.ends = {"near": near_end, "far": far_end}
                    pair.applications = {"near": near, "far": far}
                    yield pair

    return run


def end_channel(pair: Pair, stuck: str, cause: str) -> None:
    """End the channel for the end that is stuck: by its own lease, or because its peer resets the connection."""
    name = stuck if cause == "lease" else OTHER[stuck]
    pair.registries[name].abort_all(LeaseEndedError("lease ended: bob"))


async def check_nothing_left(pair: Pair, stuck: str, cause: str, until: Any) -> None:
    key = pair.forget_key(stuck)
    await until(lambda: pair.reset(stuck))
    await until(lambda: not pair.slots(stuck))
    assert len(pair.registries[stuck]) == 0
    assert pair.ends[stuck].stats.open == 0
    assert pair.ends[stuck].stats.ended == {"lease_ended" if cause == "lease" else "channel_broken": 1}
    gc.collect()
    assert key() is None


async def fill(pair: Pair, stuck: str) -> "asyncio.Task[None]":
    """Send to an application that does not read, until nothing moves any more."""
    loop = asyncio.get_running_loop()
    sending = asyncio.create_task(loop.sock_sendall(pair.applications[OTHER[stuck]], bytes(100_000_000)))
    stats, before = pair.ends[stuck].stats, -1
    while stats.received != before or not before or not pair.channel(stuck).wire._paused:
        before = stats.received
        for _ in range(300):  # turns of the event loop without one more byte taken
            await asyncio.sleep(0)
    assert not sending.done()
    return sending


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("stuck", OTHER)
async def test_a_channel_ends_while_the_application_does_not_read(
    connected: Any, until: Any, stuck: str, cause: str
) -> None:
    async with connected() as pair:
        sending = await fill(pair, stuck)
        end_channel(pair, stuck, cause)
        await check_nothing_left(pair, stuck, cause, until)
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            await sending


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("stuck", OTHER)
async def test_a_channel_ends_while_the_application_does_not_answer_the_peers_end(
    connected: Any, until: Any, stuck: str, cause: str
) -> None:
    async with connected() as pair:
        pair.applications[OTHER[stuck]].shutdown(socket.SHUT_WR)
        assert await asyncio.get_running_loop().sock_recv(pair.applications[stuck], 1) == b""
        end_channel(pair, stuck, cause)
        await check_nothing_left(pair, stuck, cause, until)


@pytest.mark.parametrize("stuck", OTHER)
async def test_a_half_closed_channel_stays_open_as_long_as_the_other_half(
    connected: Any, until: Any, stuck: str
) -> None:
    loop = asyncio.get_running_loop()
    async with connected() as pair:
        first, last = pair.applications[OTHER[stuck]], pair.applications[stuck]
        first.shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(last, 1) == b""
        for number in range(3):
            await loop.sock_sendall(last, bytes([number]))
            assert await loop.sock_recv(first, 10) == bytes([number])
        last.shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(first, 1) == b""
        await until(lambda: not any(pair.slots(name) for name in OTHER))
        for end in pair.ends.values():
            assert end.stats.ended == {"completed": 1}


@pytest.mark.parametrize("stuck", OTHER)
async def test_what_arrived_whole_before_the_connection_was_lost_reaches_a_slow_application(
    connected: Any, until: Any, monkeypatch: pytest.MonkeyPatch, stuck: str
) -> None:
    """Both directions had ended, so nothing is missing: the loss means nothing any more."""
    monkeypatch.setattr(forwarding, "CLOSE_SECONDS", 60)
    released, plain_write = asyncio.Event(), PlainStream.write

    async def slow_write(self: Any, data: bytes) -> None:
        await released.wait()
        await plain_write(self, data)

    loop = asyncio.get_running_loop()
    async with connected() as pair:
        monkeypatch.setattr(PlainStream, "write", slow_write)
        channel = pair.channel(stuck)
        pair.applications[stuck].shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(pair.applications[OTHER[stuck]], 1) == b""
        await loop.sock_sendall(pair.applications[OTHER[stuck]], b"whole")
        pair.applications[OTHER[stuck]].shutdown(socket.SHUT_WR)
        await until(lambda: pair.ends[OTHER[stuck]].stats.ended)
        await until(lambda: channel.wire.eof)
        channel.wire._transport.abort()
        await channel.wire.gone()
        released.set()
        assert await loop.sock_recv(pair.applications[stuck], 10) == b"whole"
        assert await loop.sock_recv(pair.applications[stuck], 1) == b""
        await until(lambda: not pair.slots(stuck))
        assert pair.ends[stuck].stats.ended == {"completed": 1}


async def test_an_ended_channel_holds_no_key_whoever_holds_the_channel(connected: Any) -> None:
    async with connected() as pair:
        channels = {name: pair.channel(name) for name in OTHER}
        keys = [pair.forget_key(name) for name in OTHER]
        for channel in channels.values():
            channel.abort(ChannelClosedError("the lease has ended"))
        gc.collect()
        assert [key() for key in keys] == [None, None]
        assert all(channel.identity == IDENTITY for channel in channels.values())
        for channel in channels.values():
            with pytest.raises(ChannelClosedError, match="the lease has ended"):
                await channel.read()


async def test_a_channel_that_lost_its_connection_forgets_its_key_at_the_leases_end(owned: Any) -> None:
    """Such as one that an HTTP client keeps for its next request: nobody reads from it meanwhile."""
    key, registry = Key(bytes(32)), ChannelRegistry()
    watched, client = weakref.ref(key), TlsPskClient(IDENTITY, key)
    del key

    async def reset_at_once(channel: Any) -> None:
        channel.abort(ChannelClosedError("the far end resets"))

    server = TlsPskServer({IDENTITY.encode(): Secret(bytes(32))}.get)
    async with serve_channels("127.0.0.1", 0, server, reset_at_once, **owned()) as served:
        idle = await open_channel(*served.addresses[0], client, **owned(registry=registry))
        await idle.wire.gone()
    del client
    assert (len(registry), list(registry)) == (0, [idle])
    registry.abort_all(LeaseEndedError("lease ended: bob"))
    gc.collect()
    assert watched() is None
    assert list(registry) == []
    with pytest.raises(LeaseEndedError):
        await idle.read()


async def test_an_ended_channel_over_datagrams_holds_no_key_either(owned: Callable[..., Any]) -> None:
    served: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def handler(channel: Any) -> None:
        served.set_result(channel)
        await channel.gone()

    keys = [Key(bytes(32)), Key(bytes(32))]
    registries = [ChannelRegistry(), ChannelRegistry()]
    watched = [weakref.ref(key) for key in keys]
    client = DtlsPskClient(IDENTITY, keys[0])
    async with serve_datagram_channels(
        "127.0.0.1", 0, DtlsPskServer(lambda _identity: keys[1]), handler, **owned(registry=registries[1])
    ) as server:
        near = await open_datagram_channel(*server.addresses[0], client, **owned(registry=registries[0]))
        far = await served
        for registry in registries:
            registry.abort_all(LeaseEndedError("lease ended: bob"))
        keys.clear()
        del client
        gc.collect()
        assert [key() for key in watched] == [None, None]
        for channel in (near, far):
            assert channel.identity == IDENTITY
            with pytest.raises(LeaseEndedError):
                channel.send(b"x")


def test_what_stands_in_for_an_engine_does_nothing() -> None:
    ended = EndedEngine(None)
    ended.feed(b"x")
    ended.feed_eof()
    ended.close()
    ended.on_timeout()
    assert (ended.negotiated, ended.next_timeout(), ended.outgoing()) == (None, None, [])
    assert isinstance(ended.stalled(), HandshakeTimeoutError)
    attempts: list[Callable[[], object]] = [ended.handshake, lambda: ended.read(1), lambda: ended.write(b"x")]
    for attempt in attempts:
        with pytest.raises(ChannelClosedError, match="has ended"):
            attempt()


@pytest.fixture
async def unread(monkeypatch: pytest.MonkeyPatch, until: Any) -> AsyncIterator[tuple[Wire, socket.socket, bytearray]]:
    """A connection with more unread bytes than are allowed, its far end, and what arrived."""
    monkeypatch.setattr(wire, "LOOK_SECONDS", 0.001)
    got = bytearray()
    near = Wire(got.extend)
    with socket.create_server(("127.0.0.1", 0)) as service:
        await asyncio.get_running_loop().create_connection(lambda: near, *service.getsockname())
        far, _address = service.accept()
    with far:
        far.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(far, bytes(UNREAD_BYTES_MAX))
        await until(lambda: len(got) == UNREAD_BYTES_MAX)
        yield near, far, got
    near.abort()
    await near.gone()


def reset(far: socket.socket) -> None:
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, wire._LINGER_RESET)
    far.close()


async def test_a_reset_is_found_while_nobody_reads(unread: Any) -> None:
    near, far, _got = unread
    reset(far)
    await near.gone()
    assert near.error.errno == errno.ECONNRESET


async def test_what_a_peer_sent_before_its_fin_is_not_lost_by_a_later_reset(unread: Any, until: Any) -> None:
    near, far, got = unread
    await asyncio.get_running_loop().sock_sendall(far, b"the rest")
    far.shutdown(socket.SHUT_WR)
    looks: list[object] = []
    look = near._look_again

    def counted() -> None:
        looks.append(None)
        look()

    near._look_again = counted
    reset(far)
    await until(lambda: len(looks) > 3)
    assert not near._gone.is_set()
    near.consumed()
    await until(lambda: near.eof)
    assert got.endswith(b"the rest")
