"""The UDP tunnel: one channel for each peer of the application, boundaries kept, nothing cut, nothing kept for ever."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from mcbn_workload.channels.registry import ChannelRegistry, Limits
from mcbn_workload.errors import ConfigurationError, NoKeysError
from mcbn_workload.tunnel.addresses import LoopbackAddress, PlaintextAddressError, UnixAddress
from mcbn_workload.tunnel.datagram_ends import WAITING_DATAGRAMS_MAX, connect_datagram_tunnel, serve_datagram_tunnel
from tests.unit.workload.channels.waiting import when

Owned = Callable[..., dict[str, Any]]


class Application(asyncio.DatagramProtocol):
    """An application's socket: keeps what arrives, and echoes it if told to."""

    def __init__(self, *, echo: bool = False) -> None:
        self._echo = echo
        self.arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self.peers: list[Any] = []
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.peers.append(addr)
        self.arrived.put_nowait(data)
        if self._echo:
            self.transport.sendto(data, addr)

    @property
    def port(self) -> int:
        port: int = self.transport.get_extra_info("sockname")[1]
        return port


async def application(*, to: str | None = None, echo: bool = False) -> Application:
    loop = asyncio.get_running_loop()
    made = Application(echo=echo)
    if to is None:
        await loop.create_datagram_endpoint(lambda: made, local_addr=("127.0.0.1", 0))
    else:
        host, _, port = to.rpartition(":")
        await loop.create_datagram_endpoint(lambda: made, remote_addr=(host, int(port)))
    return made


@asynccontextmanager
async def tunnel(dtls: SimpleNamespace, owned: Owned, **changes: Any) -> AsyncIterator[SimpleNamespace]:
    """Both ends, with an echo behind the server's."""
    service = await application(echo=True)
    target = LoopbackAddress("127.0.0.1", service.port)
    async with serve_datagram_tunnel("127.0.0.1", 0, target, dtls.server(), **owned(**changes)) as far:
        near_end = LoopbackAddress("127.0.0.1", 0)
        async with connect_datagram_tunnel(near_end, far.addresses[0], dtls.client(), **owned(**changes)) as near:
            yield SimpleNamespace(far=far, near=near, service=service)
    service.transport.close()


async def test_datagrams_arrive_whole_both_ways(dtls: SimpleNamespace, owned: Owned) -> None:
    async with tunnel(dtls, owned) as ends:
        one = await application(to=ends.near.addresses[0])
        for size in (1, 500, 1371):
            one.transport.sendto(bytes([size % 251]) * size)
            assert await one.arrived.get() == bytes([size % 251]) * size
        assert ends.near.stats.sent == ends.near.stats.received == 1 + 500 + 1371
        assert ends.far.stats.sent == ends.near.stats.received
        assert ends.near.stats.open == ends.far.stats.open == 1
        one.transport.close()


async def test_each_peer_of_the_application_has_a_channel_of_its_own(dtls: SimpleNamespace, owned: Owned) -> None:
    async with tunnel(dtls, owned) as ends:
        peers = [await application(to=ends.near.addresses[0]) for _ in range(10)]
        for number, peer in enumerate(peers):
            peer.transport.sendto(f"from {number}".encode())
        for number, peer in enumerate(peers):
            assert await peer.arrived.get() == f"from {number}".encode()
        assert len(set(ends.service.peers)) == 10
        assert ends.far.stats.open == 10
        for peer in peers:
            peer.transport.close()


@pytest.mark.parametrize("size", [0, 1372, 5000])
async def test_what_does_not_fit_is_refused_counted_and_never_cut(
    dtls: SimpleNamespace, owned: Owned, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    async with tunnel(dtls, owned) as ends:
        one = await application(to=ends.near.addresses[0])
        for data in (b"before", bytes(size), bytes(size), b"after"):
            ends.near._on_datagram(data, one.transport.get_extra_info("sockname"))  # asyncio sends no empty ones
        assert await one.arrived.get() == b"before"
        assert await one.arrived.get() == b"after"
        assert ends.near.stats.refused == 2
        assert ends.service.arrived.qsize() == 2
        lines = [record for record in caplog.records if getattr(record, "event", "") == "datagram_refused"]
        assert len(lines) == 1
        assert f"a datagram of {size} bytes: 1 to 1371 fit" in lines[0].getMessage()
        one.transport.close()


async def test_what_waits_for_the_handshake_is_bounded(dtls: SimpleNamespace, owned: Owned) -> None:
    async with tunnel(dtls, owned) as ends:
        one = await application(to=ends.near.addresses[0])
        address = one.transport.get_extra_info("sockname")
        for number in range(WAITING_DATAGRAMS_MAX + 7):
            ends.near._on_datagram(str(number).encode(), address)
        assert ends.near.stats.dropped == 7
        assert [await one.arrived.get() for _ in range(3)] == [b"0", b"1", b"2"]
        one.transport.close()


async def test_no_more_peers_than_allowed(dtls: SimpleNamespace, owned: Owned) -> None:
    async with tunnel(dtls, owned, limits=Limits(handshake_seconds=30, connections=1)) as ends:
        one, other = [await application(to=ends.near.addresses[0]) for _ in range(2)]
        one.transport.sendto(b"x")
        assert await one.arrived.get() == b"x"
        other.transport.sendto(b"y")
        await when(lambda: ends.near.stats.dropped)
        assert ends.far.stats.open == 1
        one.transport.close()
        other.transport.close()


async def test_a_far_end_without_the_key_is_logged_and_the_next_datagram_tries_again(
    dtls: SimpleNamespace, owned: Owned, caplog: pytest.LogCaptureFixture
) -> None:
    factory = dtls.client(name="someone-else")
    service = LoopbackAddress("127.0.0.1", 9)
    async with (
        serve_datagram_tunnel("127.0.0.1", 0, service, dtls.server(), **owned()) as far,
        connect_datagram_tunnel(LoopbackAddress("127.0.0.1", 0), far.addresses[0], factory, **owned()) as near,
    ):
        one = await application(to=near.addresses[0])
        one.transport.sendto(b"lost")
        await when(lambda: (near.stats.ended["channel_peer_refused"], near.stats.dropped) == (1, 1))
        one.transport.sendto(b"lost too")
        await when(lambda: (near.stats.ended["channel_peer_refused"], near.stats.dropped) == (2, 2))
        one.transport.close()
    assert caplog.text.count("no channel to 127.0.0.1") == 1  # an application may send thousands of datagrams a second


async def test_an_idle_peer_is_let_go_at_both_ends(
    dtls: SimpleNamespace, owned: Owned, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with tunnel(dtls, owned, limits=Limits(handshake_seconds=30, idle_seconds=0.3)) as ends:
        one = await application(to=ends.near.addresses[0])
        one.transport.sendto(b"x")
        await one.arrived.get()
        await when(lambda: ends.near.stats.open == ends.far.stats.open == 0)
        assert ends.near.stats.ended["completed"] == ends.far.stats.ended["completed"] == 1
        one.transport.sendto(b"again")
        assert await one.arrived.get() == b"again"
        one.transport.close()
    events = [record for record in caplog.records if getattr(record, "event", "") == "channel_open"]
    assert {event.protocol for event in events} == {"DTLSv1.2"}  # type: ignore[attr-defined]  # from `extra`
    assert len(events) == 4


async def test_a_pause_ends_the_sessions(dtls: SimpleNamespace, owned: Owned) -> None:
    registry = ChannelRegistry()
    async with tunnel(dtls, owned, registry=registry) as ends:
        one = await application(to=ends.near.addresses[0])
        one.transport.sendto(b"x")
        await one.arrived.get()
        registry.abort_all(NoKeysError("Bob paused"))
        await when(lambda: ends.near.stats.open == ends.far.stats.open == 0)
        assert ends.near.stats.ended[NoKeysError.code] == 1
        one.transport.close()


async def test_an_application_that_does_not_listen_loses_datagrams_only(dtls: SimpleNamespace, owned: Owned) -> None:
    async with tunnel(dtls, owned) as ends:
        one = await application(to=ends.near.addresses[0])
        one.transport.sendto(b"x")
        await one.arrived.get()
        ends.service.transport.close()
        await asyncio.sleep(0)
        for _ in range(3):
            one.transport.sendto(b"into the void")
        await when(lambda: ends.near.stats.sent == 1 + 3 * 13)
        assert ends.far.stats.open == 1
        one.transport.close()


async def test_a_stopped_end_takes_nobody_more(dtls: SimpleNamespace, owned: Owned) -> None:
    async with tunnel(dtls, owned) as ends:
        one = await application(to=ends.near.addresses[0])
        one.transport.sendto(b"x")
        await one.arrived.get()
        await ends.near.aclose(30)
        await ends.far.aclose(30)
        await when(lambda: ends.near.stats.open == ends.far.stats.open == 0)
        ends.near._on_datagram(b"late", ("127.0.0.1", 1))
        assert ends.near.stats.dropped == 1
        assert ends.near.stats.ended["cancelled"] == 1
        one.transport.close()


async def test_a_failure_of_ours_ends_one_peer_only(
    dtls: SimpleNamespace, owned: Owned, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tunnel(dtls, owned) as ends:

        async def fail() -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(ends.near, "_open_channel", fail)
            ends.near._on_datagram(b"x", ("127.0.0.1", 1))
            await when(lambda: not ends.near._peers)
        assert "forwarding failed" in caplog.text
        one = await application(to=ends.near.addresses[0])
        one.transport.sendto(b"x")
        assert await one.arrived.get() == b"x"
        one.transport.close()


async def test_plaintext_stays_on_loopback_and_is_no_path(dtls: SimpleNamespace, owned: Owned) -> None:
    path = UnixAddress("/run/application.sock")
    with pytest.raises(PlaintextAddressError, match="no socket path"):
        async with serve_datagram_tunnel("127.0.0.1", 0, path, dtls.server(), **owned()):
            pass
    factory = dtls.client()
    with pytest.raises(PlaintextAddressError, match="no socket path"):
        async with connect_datagram_tunnel(path, ("127.0.0.1", 1), factory, **owned()):
            pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # uvloop drops the socket unclosed
async def test_a_taken_address_is_named(dtls: SimpleNamespace, owned: Owned) -> None:
    taken = await application()
    factory = dtls.client()
    with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{taken.port}"):
        async with connect_datagram_tunnel(
            LoopbackAddress("127.0.0.1", taken.port), ("127.0.0.1", 1), factory, **owned()
        ):
            pass
    taken.transport.close()
