"""Channels over loopback TCP: data, ends, back-pressure, deadlines, and the keys' life."""

import asyncio
import hashlib
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from mcbn_workload.channels import errors
from mcbn_workload.channels.listener import ChannelServer, Handler, serve_channels
from mcbn_workload.channels.registry import FAILURE_LOG_SECONDS, ChannelRegistry, Limits
from mcbn_workload.channels.streams import Channel, open_channel
from mcbn_workload.channels.wire import WRITE_BUFFER_BYTES
from mcbn_workload.errors import ConfigurationError, WorkloadError

Owned = Callable[..., dict[str, Any]]


class LeaseEndedError(WorkloadError):
    code = "lease_ended"


@pytest.fixture
def serving(psk: SimpleNamespace, owned: Owned) -> Callable[..., Any]:
    @asynccontextmanager
    async def serve(handler: Handler, **changes: Any) -> AsyncIterator[ChannelServer]:
        async with serve_channels("127.0.0.1", 0, psk.server(), handler, **owned(**changes)) as server:
            yield server

    return serve


@pytest.fixture
def connect(psk: SimpleNamespace, owned: Owned) -> Callable[..., Any]:
    async def to(server: ChannelServer, factory: Any = None, **changes: Any) -> Channel:
        return await open_channel(*server.addresses[0], factory or psk.client(), **owned(**changes))

    return to


async def read_all(channel: Channel) -> bytes:
    pieces = []
    while piece := await channel.read():
        pieces.append(piece)
    return b"".join(pieces)


async def echo(channel: Channel) -> None:
    while data := await channel.read():
        await channel.write(data)
    await channel.write_eof()


async def test_echo_with_half_close(serving: Any, connect: Any, psk: SimpleNamespace) -> None:
    async with serving(echo) as server, await connect(server) as channel:
        assert channel.negotiated.suite == "TLS_CHACHA20_POLY1305_SHA256"
        assert channel.negotiated.identity == psk.identity
        await channel.write(b"hello")
        assert await channel.read() == b"hello"
        await channel.write(b"again")
        await channel.write_eof()
        assert await read_all(channel) == b"again"
        with pytest.raises(errors.ChannelClosedError):
            await channel.write(b"too late")


async def test_the_server_may_end_its_direction_first(serving: Any, connect: Any) -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def handler(channel: Channel) -> None:
        await channel.write_eof()
        got.set_result(await read_all(channel))

    async with serving(handler) as server, await connect(server) as channel:
        assert await channel.read() == b""
        await channel.write(b"after your end")
        await channel.write_eof()
        assert await got == b"after your end"


async def test_a_reader_takes_no_more_than_it_asks_for(serving: Any, connect: Any) -> None:
    async with serving(echo) as server, await connect(server) as channel:
        await channel.write(b"abcdef")
        assert [await channel.read(2) for _ in range(3)] == [b"ab", b"cd", b"ef"]


async def test_large_transfers_both_ways_at_once(serving: Any, connect: Any) -> None:
    data = random.Random(2).randbytes(8_000_000)  # noqa: S311  # data, not a secret
    async with serving(echo) as server, await connect(server) as channel, asyncio.TaskGroup() as group:

        async def send() -> None:
            await channel.write(data)
            await channel.write_eof()

        group.create_task(send())
        back = group.create_task(read_all(channel))
    assert hashlib.sha256(back.result()).digest() == hashlib.sha256(data).digest()


async def test_a_writer_waits_for_a_reader_that_does_not_read(until: Any, serving: Any, connect: Any) -> None:
    release = asyncio.Event()
    total = 64_000_000
    received = 0

    async def handler(channel: Channel) -> None:
        nonlocal received
        await release.wait()
        while data := await channel.read():
            received += len(data)

    async with serving(handler) as server, await connect(server) as channel:
        writer = asyncio.create_task(channel.write(bytes(total)))
        await until(lambda: not channel.wire._writable.is_set())
        for _ in range(200):  # turns of the event loop, in which nothing more may pile up
            await asyncio.sleep(0)
        assert not writer.done()
        transport = channel.wire._transport
        assert transport is not None
        assert transport.get_write_buffer_size() <= 2 * WRITE_BUFFER_BYTES
        release.set()
        await writer
        await channel.close()
    assert received == total


async def test_close_delivers_what_was_written(serving: Any, connect: Any) -> None:
    data = bytes(3_000_000)

    async def handler(channel: Channel) -> None:
        await channel.write(data)

    async with serving(handler) as server, await connect(server) as channel:
        assert len(await read_all(channel)) == len(data)


async def test_calls_after_close_say_so(serving: Any, connect: Any) -> None:
    async with serving(echo) as server:
        channel = await connect(server)
        await channel.close()
        await channel.close()
        for call in (channel.read(), channel.write(b"x"), channel.write_eof()):
            with pytest.raises(errors.ChannelClosedError):
                await call


async def test_facts_are_not_there_before_the_handshake(psk: SimpleNamespace, owned: Owned) -> None:
    channel = Channel(psk.client()(), **owned())
    with pytest.raises(errors.ChannelClosedError):
        _ = channel.negotiated


async def relay(server: ChannelServer, cut: asyncio.Event, *, reset: bool = False) -> asyncio.Server:
    """A network between the two ends that loses the connection when `cut` is set."""
    far_host, far_port = server.addresses[0]

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(far_host, far_port)
        tasks = [asyncio.create_task(pipe(reader, far_writer)), asyncio.create_task(pipe(far_reader, writer))]
        await cut.wait()
        for task in tasks:
            task.cancel()
        for end in (writer, far_writer):
            end.transport.abort() if reset else end.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


@pytest.mark.parametrize("reset", [False, True])
async def test_an_end_without_close_notify_is_a_failure_at_both_ends(
    serving: Any, psk: SimpleNamespace, owned: Owned, reset: bool
) -> None:
    cut = asyncio.Event()
    served: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def handler(channel: Channel) -> None:
        await channel.write(b"part of the answer")
        try:
            await read_all(channel)
        except errors.ChannelError as error:
            served.set_result(error)

    async with serving(handler) as server, await relay(server, cut, reset=reset) as network:
        port = network.sockets[0].getsockname()[1]
        channel = await open_channel("127.0.0.1", port, psk.client(), **owned())
        assert await channel.read() == b"part of the answer"
        cut.set()
        with pytest.raises(errors.ChannelTruncatedError):
            await read_all(channel)
        assert isinstance(channel.reason, errors.ChannelTruncatedError)
        assert isinstance(await served, errors.ChannelTruncatedError)


async def test_wrong_key_fails_at_both_ends(
    until: Any, serving: Any, connect: Any, psk: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(echo) as server:
        with pytest.raises(errors.PeerRefusedError):
            await connect(server, psk.client(value=b"\xff" * 32))
        await until(lambda: not server.open_channels)
    assert any("holds another key" in text for text in caplog.messages)


async def test_nobody_listens(psk: SimpleNamespace, owned: Owned) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(errors.PeerUnreachableError, match="cannot connect"):
            await open_channel("127.0.0.1", taken.getsockname()[1], psk.client(), **owned())


async def test_a_silent_server_ends_by_the_deadline(psk: SimpleNamespace, owned: Owned) -> None:
    limits = Limits(handshake_seconds=0.05)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(errors.HandshakeTimeoutError, match=r"0\.05 s"),
    ):
        await open_channel("127.0.0.1", silent.getsockname()[1], psk.client(), **owned(limits=limits))


async def test_a_silent_client_ends_by_the_deadline(until: Any, serving: Any) -> None:
    async with serving(echo, limits=Limits(handshake_seconds=0.05)) as server:
        reader, writer = await asyncio.open_connection(*server.addresses[0])
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await until(lambda: not server.open_channels)


async def test_connect_and_close_ends_at_once(until: Any, serving: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(echo) as server:
        reader, writer = await asyncio.open_connection(*server.addresses[0])
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await until(lambda: not server.open_channels)
    assert any("closed the connection during the handshake" in text for text in caplog.messages)


async def test_the_oldest_unfinished_handshake_gives_way(serving: Any, connect: Any) -> None:
    async with serving(echo, limits=Limits(handshake_seconds=60, handshakes=2)) as server:
        silent = [await asyncio.open_connection(*server.addresses[0]) for _ in range(3)]
        with pytest.raises(ConnectionResetError):
            await silent[0][0].read()
        async with await connect(server) as channel:
            await channel.write(b"let in")
            assert await channel.read() == b"let in"
        with pytest.raises(ConnectionResetError):
            await silent[1][0].read()
        for _, writer in silent:
            writer.close()


async def test_connections_above_the_cap_are_refused(serving: Any, connect: Any) -> None:
    async with serving(echo, limits=Limits(connections=1)) as server, await connect(server) as channel:
        with pytest.raises(errors.HandshakeError):
            await connect(server)
        await channel.write(b"mine goes on")
        assert await channel.read() == b"mine goes on"


async def test_an_ended_lease_ends_the_channel_at_both_ends(until: Any, serving: Any, connect: Any) -> None:
    ended = LeaseEndedError("lease ended: bob")
    live = {"client": True, "server": True}
    reasons: dict[str, Any] = {}

    def guard(end: str) -> Callable[[str | None], None]:
        def check(_identity: str | None) -> None:
            if not live[end]:
                raise ended

        return check

    async def handler(channel: Channel) -> None:
        try:
            await echo(channel)
        finally:
            reasons["server"] = channel.reason

    async with serving(handler, guard=guard("server")) as server:
        channel = await connect(server, guard=guard("client"))
        await channel.write(b"live")
        assert await channel.read() == b"live"
        live["server"] = live["client"] = False
        for call in (channel.write(b"x"), channel.read(), channel.write_eof()):
            with pytest.raises(LeaseEndedError, match="bob"):
                await call
        assert channel.reason is ended
        with pytest.raises(LeaseEndedError):
            await connect(server, guard=guard("client"))
        await until(lambda: "server" in reasons)
    assert isinstance(reasons["server"], (LeaseEndedError, errors.ChannelTruncatedError))


async def test_both_ends_guard_a_channel_by_its_own_key_once_they_know_it(
    serving: Any, connect: Any, psk: SimpleNamespace
) -> None:
    asked: dict[str, list[str | None]] = {"server": [], "client": []}
    async with serving(echo, guard=asked["server"].append) as server:
        channel = await connect(server, guard=asked["client"].append)
        assert asked["client"][0] is None
        assert asked["client"][-1] == psk.identity
        await channel.write(b"the server's handshake is complete, too, when this comes back")
        await channel.read()
        for identities in asked.values():
            identities.clear()
        await channel.write(b"x")
        assert await channel.read() == b"x"
        await channel.close()
    assert set(asked["server"]) == set(asked["client"]) == {psk.identity}


async def test_a_handshake_that_completes_under_a_key_that_has_ended_is_no_channel(
    until: Any, serving: Any, connect: Any
) -> None:
    ended = LeaseEndedError("the epoch has ended")
    served = []

    def guard(identity: str | None) -> None:
        if identity is not None:
            raise ended

    async def handler(channel: Channel) -> None:
        served.append(channel)

    async with serving(echo) as server:
        with pytest.raises(LeaseEndedError, match="the epoch has ended"):
            await connect(server, guard=guard)
    async with serving(handler, guard=guard) as server:
        channel = await connect(server)
        with pytest.raises(errors.ChannelTruncatedError):
            await channel.read()
        await until(lambda: not server.open_channels)
    assert not served


@pytest.mark.parametrize(("host", "port"), [("a..b", 1), ("a" * 64, 1), ("\udcff", 1)])
async def test_what_can_be_no_address_is_a_configuration_error(
    psk: SimpleNamespace, owned: Owned, host: str, port: int
) -> None:
    with pytest.raises(ConfigurationError, match="can be no address"):
        await open_channel(host, port, psk.client(), **owned())
    with pytest.raises(ConfigurationError, match="cannot listen"):
        async with serve_channels(host, port, psk.server(), echo, **owned()):
            pass


async def test_strangers_cannot_flood_the_log(until: Any, serving: Any, caplog: pytest.LogCaptureFixture) -> None:
    seconds = 0.0
    registry = ChannelRegistry(lambda: seconds)
    async with serving(echo, registry=registry) as server:
        for count in (20, 1):
            for _ in range(count):
                _reader, writer = await asyncio.open_connection(*server.addresses[0])
                writer.write(b"no TLS at all")
                writer.write_eof()
                await until(lambda: len(registry))
                await until(lambda: not len(registry))
                writer.close()
            seconds += FAILURE_LOG_SECONDS
    first, second = caplog.messages
    assert "more before it" not in first
    assert second.endswith("(19 more before it failed to authenticate)")


async def test_the_guard_is_asked_for_each_record_that_arrives(serving: Any, connect: Any) -> None:
    ended = LeaseEndedError("lease ended: bob")
    live = True

    def guard(_identity: str | None) -> None:
        if not live:
            raise ended

    async with serving(echo) as server:
        channel = await connect(server, guard=guard)
        waiting = asyncio.create_task(channel.read())
        await channel.write(b"comes back")
        live = False
        with pytest.raises(LeaseEndedError, match="bob"):
            await waiting


async def test_abort_all_ends_every_channel_with_its_reason(
    until: Any, serving: Any, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    registry = ChannelRegistry()
    served: list[BaseException] = []
    waiting = asyncio.Barrier(4)

    async def handler(channel: Channel) -> None:
        await waiting.wait()
        try:
            await channel.read()
        except WorkloadError as error:
            served.append(error)
            raise

    async with serving(handler, registry=registry) as server:
        channels = [await connect(server) for _ in range(3)]
        await waiting.wait()
        assert len(registry) == 3
        registry.abort_all(LeaseEndedError("lease ended: bob"))
        for channel in channels:
            with pytest.raises(errors.ChannelTruncatedError):
                await channel.read()
        await until(lambda: not server.open_channels and not len(registry))
    assert [str(error) for error in served] == ["lease ended: bob"] * 3
    assert sum("lease ended: bob" in text for text in caplog.messages) == 3


async def test_abort_wakes_a_blocked_writer(until: Any, serving: Any, connect: Any) -> None:
    async def never_reads(channel: Channel) -> None:
        await asyncio.Event().wait()

    async with serving(never_reads) as server:
        channel = await connect(server)
        writer = asyncio.create_task(channel.write(bytes(64_000_000)))
        await until(lambda: not channel.wire._writable.is_set())
        channel.abort(LeaseEndedError("lease ended: bob"))
        channel.abort(LeaseEndedError("another reason, later"))
        with pytest.raises(LeaseEndedError, match="bob"):
            await writer


async def test_writing_to_a_lost_connection_says_so(until: Any, serving: Any, connect: Any) -> None:
    async def gives_up(channel: Channel) -> None:
        raise LookupError

    async with serving(gives_up) as server:
        channel = await connect(server)
        await until(lambda: not channel.wire.connected)
        with pytest.raises(errors.ChannelBrokenError, match="lost"):
            await channel.write(b"x")


async def test_close_drops_what_the_peer_still_sends(until: Any, serving: Any, connect: Any) -> None:
    async def talks_on(channel: Channel) -> None:
        await channel.write(bytes(3_000_000))
        assert await channel.read() == b""

    async with serving(talks_on) as server:
        channel = await connect(server)
        await channel.read(10)
        await channel.close()
        assert isinstance(channel.reason, errors.ChannelClosedError)
        await until(lambda: not server.open_channels)


async def test_close_does_not_wait_for_ever(serving: Any, connect: Any) -> None:
    async def never_reads(channel: Channel) -> None:
        await asyncio.Event().wait()

    async with serving(never_reads) as server:
        channel = await connect(server, limits=Limits(close_seconds=0.05))
        await channel.close()
        assert isinstance(channel.reason, errors.ChannelClosedError)


async def test_close_waits_for_a_slow_reader_and_loses_nothing(until: Any, serving: Any, connect: Any) -> None:
    release = asyncio.Event()
    end: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def slow(channel: Channel) -> None:
        await release.wait()
        while data := await channel.read():
            pass
        end.set_result(data)

    async with serving(slow) as server:
        channel = await connect(server, limits=Limits(close_seconds=0))
        writer = asyncio.create_task(channel.write(bytes(64_000_000)))
        await until(lambda: not channel.wire._writable.is_set())
        writer.cancel()
        closing = asyncio.create_task(channel.close())
        for _ in range(200):  # turns of the event loop: it must neither end nor drop what the kernel has not taken
            await asyncio.sleep(0)
        assert not closing.done()
        release.set()
        await closing
        assert await end == b""


async def test_a_cancelled_read_leaves_the_channel_usable(serving: Any, connect: Any) -> None:
    async with serving(echo) as server, await connect(server) as channel:
        reader = asyncio.create_task(channel.read())
        await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        await channel.write(b"goes on")
        assert await channel.read() == b"goes on"


async def test_cancelling_a_handshake_leaves_nothing_open(until: Any, psk: SimpleNamespace, owned: Owned) -> None:
    registry = ChannelRegistry()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        opening = asyncio.create_task(
            open_channel("127.0.0.1", silent.getsockname()[1], psk.client(), **owned(registry=registry)),
        )
        await until(lambda: len(registry))
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await until(lambda: not len(registry))


async def test_fifty_concurrent_streams(serving: Any, connect: Any) -> None:
    async def one(server: ChannelServer, number: int) -> None:
        data = bytes([number]) * 50_000
        async with await connect(server) as channel:
            await channel.write(data)
            await channel.write_eof()
            assert await read_all(channel) == data

    async with serving(echo) as server, asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(one(server, number))


async def test_a_failing_handler_ends_only_its_own_channel(
    serving: Any, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(channel: Channel) -> None:
        if await channel.read() == b"fail":
            raise RuntimeError("a fault in the application")
        await channel.write(b"well")

    async with serving(handler) as server:
        bad, good = await connect(server), await connect(server)
        await bad.write(b"fail")
        with pytest.raises(errors.ChannelTruncatedError):
            await bad.read()
        await good.write(b"please")
        assert await good.read() == b"well"
        await good.close()
    assert any("a fault in the application" in (record.exc_text or "") for record in caplog.records)


async def test_a_stopping_server_lets_handlers_finish_within_the_grace(serving: Any, connect: Any) -> None:
    started = asyncio.Event()

    async def handler(channel: Channel) -> None:
        started.set()
        await echo(channel)

    async with serving(handler) as server:
        channel = await connect(server)
        await started.wait()
        stopping = asyncio.create_task(server.aclose(30))
        await channel.write(b"to the end")
        await channel.write_eof()
        assert await read_all(channel) == b"to the end"
        await channel.close()
        await stopping
        with pytest.raises(errors.PeerUnreachableError):
            await connect(server)


async def test_leaving_the_block_aborts_what_is_open(serving: Any, connect: Any) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def handler(channel: Channel) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(handler) as server:
        channel = await connect(server)
        await started.wait()
    assert ended.is_set()
    with pytest.raises(errors.ChannelTruncatedError):
        await channel.read()


async def test_the_callers_exception_leaves_the_block_unwrapped(serving: Any) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with serving(echo):
            raise LookupError("mine")


async def test_an_address_in_use_is_a_configuration_error(serving: Any, psk: SimpleNamespace, owned: Owned) -> None:
    async with serving(echo) as server:
        with pytest.raises(ConfigurationError, match="cannot listen"):
            async with serve_channels("127.0.0.1", server.addresses[0][1], psk.server(), echo, **owned()):
                pass


async def test_the_application_giving_up_aborts_the_channel(serving: Any, connect: Any) -> None:
    async with serving(echo) as server:
        channel = await connect(server)
        with pytest.raises(LookupError):
            async with channel:
                raise LookupError
        assert isinstance(channel.reason, errors.ChannelClosedError)


@pytest.mark.usefixtures("no_garbage_collector")
async def test_failed_handshakes_leave_no_memory_behind(
    until: Any, connect: Any, psk: SimpleNamespace, owned: Owned
) -> None:
    factory = psk.server()
    async with serve_channels("127.0.0.1", 0, factory, echo, **owned()) as server:
        for _ in range(5):
            with pytest.raises(errors.PeerRefusedError):
                await connect(server, psk.client(value=b"\xff" * 32))
        await until(lambda: not server.open_channels)
        await asyncio.sleep(0)  # the last task is done; its callback still holds it
        assert len(factory._server().engines) == 0


async def test_200_streams_at_once(connect: Any, psk: SimpleNamespace, owned: Owned) -> None:
    """Each gets its own bytes back, while all of them are open."""
    limits = Limits(handshake_seconds=60, handshakes=256)
    async with serve_channels("127.0.0.1", 0, psk.server(), echo, **owned(limits=limits)) as server:
        factory = psk.client()

        async def talk(number: int) -> Channel:
            channel: Channel = await connect(server, factory)
            data = number.to_bytes(2) * 20_000
            await channel.write(data)
            received = bytearray()
            while len(received) < len(data):
                received += await channel.read()
            assert received == data
            return channel

        channels = await asyncio.gather(*(talk(number) for number in range(200)))
        assert server.open_channels == 200
        await asyncio.gather(*(channel.close() for channel in channels))
