"""Channels over datagrams: many peers on one port, loss, forgeries, silence, and the ends of channels."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from mcbn_workload.channels import errors
from mcbn_workload.channels.datagram_listener import DatagramServer, serve_datagram_channels
from mcbn_workload.channels.datagrams import UNREAD_DATAGRAMS_MAX, DatagramChannel, open_datagram_channel
from mcbn_workload.channels.registry import ChannelRegistry, Limits
from mcbn_workload.errors import ConfigurationError, NoKeysError
from tests.unit.workload.channels.lossy_network import LossyRelay
from tests.unit.workload.channels.waiting import when

Owned = Callable[..., dict[str, Any]]
HANDSHAKE_HEADER = b"\x16\xfe\xfd" + bytes(8) + b"\x00\x20\x01"
SILENCE_CPU_SECONDS = 0.2  # of this process, for 50 peers that say nothing, which have a flight sent again once
LOSSES = [(1, 0.05), (2, 0.05), (3, 0.1)]


async def ask(channel: DatagramChannel, question: bytes) -> None:
    """Send until the echo comes: the kernel drops what overflows a socket's buffer, as any network may."""
    while True:
        channel.send(question)
        try:
            async with asyncio.timeout(1):
                while (answer := await channel.receive()) != question:
                    assert answer
        except TimeoutError:
            continue
        return


async def echo(channel: DatagramChannel) -> None:
    while data := await channel.receive():
        channel.send(data)


@asynccontextmanager
async def served(dtls: SimpleNamespace, owned: Owned, handler: Any = echo, **changes: Any) -> AsyncIterator[Any]:
    async with serve_datagram_channels("127.0.0.1", 0, dtls.server(), handler, **owned(**changes)) as server:
        yield server


async def connect(server: DatagramServer, factory: Any, owned: Owned, **changes: Any) -> DatagramChannel:
    return await open_datagram_channel(*server.addresses[0], factory, **owned(**changes))


async def test_datagrams_keep_their_boundaries(dtls: SimpleNamespace, owned: Owned) -> None:
    async with served(dtls, owned) as server, await connect(server, dtls.client(), owned) as channel:
        largest = channel.negotiated.max_datagram
        assert largest is not None
        for size in (1, 2, 100, 1000, largest - 1, largest):
            channel.send(bytes([size % 251]) * size)
            assert await channel.receive() == bytes([size % 251]) * size


@pytest.mark.parametrize("size", [0, 1372, 65536])
async def test_what_does_not_fit_is_refused_and_the_channel_goes_on(
    dtls: SimpleNamespace, owned: Owned, size: int
) -> None:
    async with served(dtls, owned) as server, await connect(server, dtls.client(), owned) as channel:
        with pytest.raises(errors.ChannelLimitError, match="1 to 1371 fit"):
            channel.send(bytes(size))
        channel.send(b"still here")
        assert await channel.receive() == b"still here"


@pytest.mark.parametrize(
    ("dtls", "peers"),
    [("openssl", 200), ("mbedtls", 50), pytest.param("mbedtls", 200, marks=pytest.mark.long)],
    indirect=["dtls"],
)
async def test_200_peers_on_one_port(dtls: SimpleNamespace, owned: Owned, peers: int) -> None:
    """Each has its own channel: no datagram reaches another's. Mbed TLS takes long, so that fewer show it daily."""
    limits = Limits(handshake_seconds=100, handshakes=256)
    async with served(dtls, owned, limits=limits) as server:
        factory = dtls.client()

        async def talk(number: int) -> DatagramChannel:
            channel = await connect(server, factory, owned, limits=limits)
            for turn in range(5):
                await ask(channel, f"{number}.{turn}".encode())
            return channel

        channels = await asyncio.gather(*(talk(number) for number in range(peers)))
        assert server.open_channels == peers
        for channel in channels:
            channel.close()


@pytest.mark.parametrize(("seed", "loss"), LOSSES)
async def test_lost_repeated_and_reordered_datagrams(
    dtls: SimpleNamespace, owned: Owned, seed: int, loss: float
) -> None:
    """Handshakes complete; whatever arrives was sent, and arrives once; nothing that was forged arrives."""
    arrived: list[bytes] = []

    async def keep(channel: DatagramChannel) -> None:
        while data := await channel.receive():
            arrived.append(data)

    limits = Limits(handshake_seconds=120)
    async with served(dtls, owned, keep, limits=limits) as server:
        relay = LossyRelay(server.addresses[0], seed=seed, loss=loss, repeat=0.1, reorder=0.1, forge=0.2)
        await relay.start()
        sent: list[bytes] = []
        factory = dtls.client()
        channels = await asyncio.gather(
            *(open_datagram_channel(*relay.address, factory, **owned(limits=limits)) for _ in range(10))
        )
        while len(arrived) < 500 or not all(relay.counts.values()):
            sent.append(str(len(sent)).encode())
            channels[len(sent) % len(channels)].send(sent[-1])
            await asyncio.sleep(0.001)
        for channel in channels:
            channel.close()
        relay.close()
    assert len(set(arrived)) == len(arrived)
    assert set(arrived) <= set(sent)
    assert all(relay.counts.values())


async def test_forged_and_replayed_datagrams_are_dropped(dtls: SimpleNamespace, owned: Owned) -> None:
    """Frank, who is on the way, repeats and changes what he sees, and invents some of his own."""
    arrived: list[bytes] = []

    async def keep(channel: DatagramChannel) -> None:
        while data := await channel.receive():
            arrived.append(data)

    async with served(dtls, owned, keep) as server:
        channel = await connect(server, dtls.client(), owned)
        (address,) = server._channels
        seen: list[bytes] = []
        transmit = channel._transmit

        def overheard(datagram: bytes | bytearray) -> None:
            seen.append(bytes(datagram))
            transmit(datagram)

        channel._transmit = overheard
        channel.send(b"first")
        await when(lambda: arrived)
        record = seen[0]
        server.datagram_received(record, address)
        for at in range(len(record)):
            server.datagram_received(record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :], address)
            server.datagram_received(record[:at], address)
        server.datagram_received(b"\x15\xfe\xfd" + bytes(8) + b"\0\x02\x02\x28", address)  # an alert that nobody signed
        channel.send(b"second")
        await when(lambda: len(arrived) >= 2)
        assert arrived == [b"first", b"second"]
        assert not any(one.reason for one in server._channels.values())
        channel.close()


def took_more_than(channel: DatagramChannel, count: int) -> bool:
    return len(channel._arrived) + channel.dropped > count


class Socket:
    """A stranger's bare socket."""

    def __init__(self, server: DatagramServer) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(server.addresses[0])

    def send(self, data: bytes) -> None:
        self._socket.send(data)

    async def answer(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._socket, 65536)

    def silent(self) -> bool:
        try:
            self._socket.recv(1)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


def hello(dtls: SimpleNamespace) -> bytes:
    engine = dtls.client()()
    assert not engine.handshake()
    return bytes(engine.outgoing()[0])


async def test_a_stranger_costs_no_state_until_it_shows_its_address(dtls: SimpleNamespace, owned: Owned) -> None:
    """Somebody sends ClientHellos with forged source addresses, to make the server keep state or flood a victim."""
    async with served(dtls, owned) as server:
        stranger = Socket(server)
        for _ in range(300):
            first = hello(dtls)
            stranger.send(first)
            answer = await stranger.answer()
            assert answer[13] == 3  # HelloVerifyRequest: RFC 6347 section 4.3.2
            assert len(answer) <= len(first)
            assert stranger.silent()
        assert server.open_channels == 0
        assert not server._tasks
        stranger.close()


async def test_a_cookie_is_for_one_address(dtls: SimpleNamespace, owned: Owned) -> None:
    """Mallory gets a cookie at her own address and sends it from another."""
    async with served(dtls, owned) as server:
        mallory, victim = Socket(server), Socket(server)
        engine = dtls.client()()
        engine.handshake()
        mallory.send(bytes(engine.outgoing()[0]))
        engine.feed(await mallory.answer())
        engine.handshake()
        with_cookie = bytes(engine.outgoing()[0])
        victim.send(with_cookie)
        assert (await victim.answer())[13] == 3
        assert server.open_channels == 0
        mallory.send(with_cookie)
        assert (await mallory.answer())[13] == 2  # ServerHello
        assert server.open_channels == 1
        mallory.close()
        victim.close()


@pytest.mark.parametrize(
    "junk",
    [
        b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", bytes(2000), b"\xff" * 1400, HANDSHAKE_HEADER,
        HANDSHAKE_HEADER + bytes(31),
        b"\x16\x03\x01" + bytes(100), b"\x17\xfe\xfd" + bytes(100), b"\x16\xfe\xfd\0\1" + bytes(100),
    ],
)  # fmt: skip
async def test_junk_is_dropped_without_an_answer(dtls: SimpleNamespace, owned: Owned, junk: bytes) -> None:
    async with served(dtls, owned) as server:
        stranger = Socket(server)
        for _ in range(3):
            stranger.send(junk)
        stranger.send(hello(dtls))
        assert (await stranger.answer())[13] == 3
        assert stranger.silent()
        assert server.open_channels == 0
        stranger.close()


@pytest.mark.usefixtures("no_garbage_collector")
async def test_silent_peers_end_and_cost_no_cpu(dtls: SimpleNamespace, owned: Owned) -> None:
    """Mallory shows her address many times over, and then says nothing more."""
    async with served(dtls, owned, limits=Limits(handshake_seconds=1.5, handshakes=64)) as server:
        strangers = [Socket(server) for _ in range(50)]
        taken_in = set()  # on a slow machine the first have ended before the last have come
        for stranger in strangers:
            engine = dtls.client()()
            engine.handshake()
            stranger.send(bytes(engine.outgoing()[0]))
            engine.feed(await stranger.answer())
            engine.handshake()
            stranger.send(bytes(engine.outgoing()[0]))
            await stranger.answer()
            taken_in |= set(server._tasks)
        assert len(taken_in) == len(strangers)
        before = time.process_time()
        if server._tasks:
            await asyncio.wait(server._tasks)  # without looking again and again, which would be counted
        assert time.process_time() - before < SILENCE_CPU_SECONDS
        assert server.open_channels == 0
        for stranger in strangers:
            stranger.close()


async def test_the_oldest_handshake_gives_way(dtls: SimpleNamespace, owned: Owned) -> None:
    async with served(dtls, owned, limits=Limits(handshake_seconds=30, handshakes=2)) as server:
        strangers = [Socket(server) for _ in range(5)]
        for stranger in strangers:
            engine = dtls.client()()
            engine.handshake()
            stranger.send(bytes(engine.outgoing()[0]))
            engine.feed(await stranger.answer())
            engine.handshake()
            stranger.send(bytes(engine.outgoing()[0]))
            assert (await stranger.answer())[13] == 2
            stranger.close()
        assert server.open_channels == 2
        async with await connect(server, dtls.client(), owned) as channel:
            channel.send(b"x")
            assert await channel.receive() == b"x"


async def test_no_more_connections_than_allowed(dtls: SimpleNamespace, owned: Owned) -> None:
    limits = Limits(handshake_seconds=30, connections=1)
    async with served(dtls, owned, limits=limits) as server, await connect(server, dtls.client(), owned):
        stranger = Socket(server)
        stranger.send(hello(dtls))
        await when(lambda: server.turned_away)
        assert stranger.silent()
        stranger.close()


async def test_a_wrong_key_is_explained_at_each_end(
    dtls: SimpleNamespace, owned: Owned, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenSSL's server answers it with silence, Mbed TLS's with an alert."""
    limits = Limits(handshake_seconds=1)
    refusal, reason = (
        (errors.HandshakeTimeoutError, "holds another key")
        if dtls.library == "openssl"
        else (errors.PeerRefusedError, "its own log says why")
    )
    async with served(dtls, owned, limits=limits) as server:
        with pytest.raises(refusal, match=reason):
            await connect(server, dtls.client(key=b"\xff" * 32), owned, limits=limits)
        await when(lambda: not server.open_channels)
    assert "holds another key: compare manifest hash" in caplog.text


async def test_an_unknown_identity_is_refused(
    dtls: SimpleNamespace, owned: Owned, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(dtls, owned) as server:
        with pytest.raises(errors.PeerRefusedError, match="its own log says why"):
            await connect(server, dtls.client(name="someone-else"), owned)
        await when(lambda: not server.open_channels)
    assert "someone-else" in caplog.text


async def test_nobody_listens(dtls: SimpleNamespace, owned: Owned) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        address = taken.getsockname()
    with pytest.raises(errors.PeerUnreachableError, match="nothing listens at"):
        await open_datagram_channel(
            address[0], address[1], dtls.client(), **owned(limits=Limits(handshake_seconds=0.5))
        )


async def test_an_address_that_is_none(dtls: SimpleNamespace, owned: Owned) -> None:
    host, port = "a" * 70, 1
    with pytest.raises((ConfigurationError, errors.PeerUnreachableError)):
        await open_datagram_channel(host, port, dtls.client(), **owned())
    with pytest.raises(ConfigurationError, match="cannot listen"):
        async with serve_datagram_channels(host, port, dtls.server(), echo, **owned()):
            pass


async def test_close_reaches_the_other_end(dtls: SimpleNamespace, owned: Owned) -> None:
    async with served(dtls, owned) as server:
        channel = await connect(server, dtls.client(), owned)
        channel.send(b"x")
        assert await channel.receive() == b"x"
        channel.close()
        channel.close()
        await when(lambda: not server.open_channels)
        with pytest.raises(errors.ChannelClosedError, match="this end has closed"):
            channel.send(b"y")
        with pytest.raises(errors.ChannelClosedError, match="this end has closed"):
            await channel.receive()


async def test_what_came_before_the_close_is_still_received(dtls: SimpleNamespace, owned: Owned) -> None:
    async def leave(channel: DatagramChannel) -> None:
        for data in (b"1", b"2"):
            channel.send(data)

    async with served(dtls, owned, leave) as server:
        channel = await connect(server, dtls.client(), owned)
        assert [await channel.receive() for _ in range(4)] == [b"1", b"2", b"", b""]
        assert isinstance(await channel.gone(), errors.ChannelClosedError)


async def test_an_idle_channel_ends(dtls: SimpleNamespace, owned: Owned) -> None:
    """Its peer's close_notify may have been lost."""
    limits = Limits(handshake_seconds=30, idle_seconds=0.5)
    async with served(dtls, owned, limits=limits) as server:
        channel = await connect(server, dtls.client(), owned)
        for _ in range(4):
            await asyncio.sleep(0.2)
            channel.send(b"still here")
            await channel.receive()
        assert server.open_channels == 1
        channel._transmit = lambda _datagram: None  # from here on everything that it sends is lost
        channel.close()
        await when(lambda: not server.open_channels)


async def test_the_guard_ends_a_channel_with_the_next_datagram(dtls: SimpleNamespace, owned: Owned) -> None:
    ended: list[NoKeysError] = []

    def guard(_identity: str | None) -> None:
        if ended:
            raise ended[0]

    registry = ChannelRegistry()
    async with served(dtls, owned, guard=guard, registry=registry) as server:
        channel = await connect(server, dtls.client(), owned)
        assert len(registry) == 1
        ended.append(NoKeysError("Bob's lease has ended"))
        channel.send(b"too late")
        await when(lambda: not server.open_channels)
        assert len(registry) == 0


async def test_abort_all_ends_both_ends(dtls: SimpleNamespace, owned: Owned) -> None:
    registry = ChannelRegistry()
    async with served(dtls, owned) as server:
        channel = await connect(server, dtls.client(), owned, registry=registry)
        waiting = asyncio.ensure_future(channel.receive())
        await asyncio.sleep(0)
        registry.abort_all(NoKeysError("Bob paused"))
        with pytest.raises(NoKeysError, match="Bob paused"):
            await waiting
        await when(lambda: not server.open_channels)
        with pytest.raises(NoKeysError, match="Bob paused"):
            await channel.handshake()


async def test_what_nobody_takes_is_dropped_and_counted(dtls: SimpleNamespace, owned: Owned) -> None:
    taken = asyncio.Event()
    channels: list[DatagramChannel] = []

    async def slow(channel: DatagramChannel) -> None:
        channels.append(channel)
        await taken.wait()

    async with served(dtls, owned, slow) as server:
        channel = await connect(server, dtls.client(), owned)
        await when(lambda: channels)
        for number in range(UNREAD_DATAGRAMS_MAX + 5):
            channel.send(str(number).encode())
            await when(partial(took_more_than, channels[0], number))
        assert channels[0].dropped == 5
        got: list[bytes] = []
        channels[0].deliver_to(got.append)
        assert got == [str(number).encode() for number in range(UNREAD_DATAGRAMS_MAX)]
        taken.set()
        channel.close()


async def test_a_failing_handler_ends_its_channel_only(
    dtls: SimpleNamespace, owned: Owned, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(channel: DatagramChannel) -> None:
        if await channel.receive() == b"fail":
            raise ZeroDivisionError
        channel.send(b"fine")

    async with served(dtls, owned, fail) as server:
        bad, good = await connect(server, dtls.client(), owned), await connect(server, dtls.client(), owned)
        bad.send(b"fail")
        assert await bad.receive() == b""
        good.send(b"x")
        assert await good.receive() == b"fine"
        good.close()
    assert "the handler of the channel with 127.0.0.1" in caplog.text


async def test_a_cancelled_handshake_leaves_nothing(dtls: SimpleNamespace, owned: Owned) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        registry = ChannelRegistry()
        opening = asyncio.ensure_future(
            open_datagram_channel(
                silent.getsockname()[0], silent.getsockname()[1], dtls.client(), **owned(registry=registry)
            )
        )
        await when(lambda: len(registry))
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert len(registry) == 0


async def test_a_graceful_end_lets_handlers_finish(dtls: SimpleNamespace, owned: Owned) -> None:
    finished: list[bytes] = []

    async def once(channel: DatagramChannel) -> None:
        finished.append(await channel.receive())

    async with served(dtls, owned, once) as server:
        channel = await connect(server, dtls.client(), owned)
        ending = asyncio.ensure_future(server.aclose(30))
        await asyncio.sleep(0)
        stranger = Socket(server)
        stranger.send(hello(dtls))
        channel.send(b"the last one")
        await ending
        assert finished == [b"the last one"]
        assert stranger.silent()
        stranger.close()


async def test_a_channel_that_is_refused_before_it_begins_leaves_no_socket(owned: Owned) -> None:
    def no_keys() -> Any:
        raise NoKeysError("lease ended: bob")

    process = psutil.Process()
    before = process.num_fds()
    for _ in range(20):
        with pytest.raises(NoKeysError):
            await open_datagram_channel("127.0.0.1", 9, no_keys, **owned())
    assert process.num_fds() == before


async def test_a_name_service_without_an_answer_is_given_up(
    dtls: SimpleNamespace, owned: Owned, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_endpoint: object, **_where: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "create_datagram_endpoint", silent)
    limits = Limits(handshake_seconds=0.05)
    with pytest.raises(errors.PeerUnreachableError, match=r"far-end.example:4433: no address .* within 0.05 s"):
        await open_datagram_channel("far-end.example", 4433, dtls.client(), **owned(limits=limits))
