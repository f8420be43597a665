"""The TCP tunnel, both ends in one event loop: an application on each side, and the network between them."""

import asyncio
import hashlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mcbn_workload.channels import errors
from mcbn_workload.channels.registry import ChannelRegistry, Limits
from mcbn_workload.errors import ConfigurationError, WorkloadError
from mcbn_workload.tunnel.addresses import LoopbackAddress, UnixAddress
from mcbn_workload.tunnel.ends import connect_tunnel, serve_tunnel

Application = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class LeaseEndedError(WorkloadError):
    code = "lease_ended"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    writer.close()


@pytest.fixture
def tunnel(psk: SimpleNamespace, owned: Callable[..., Any]) -> Callable[..., Any]:
    """A tunnel before an application: gives both ends, and a way to connect to its near side."""

    @asynccontextmanager
    async def run(
        application: Application, client: dict[str, Any] | None = None, server: dict[str, Any] | None = None
    ) -> AsyncIterator[SimpleNamespace]:
        service = await asyncio.start_server(application, "127.0.0.1", 0)
        target = LoopbackAddress(*service.sockets[0].getsockname())
        async with (
            serve_tunnel("127.0.0.1", 0, target, psk.server(), **owned(**(server or {}))) as far,
            connect_tunnel(
                LoopbackAddress("127.0.0.1", 0), far.addresses[0], psk.client(), **owned(**(client or {}))
            ) as near,
        ):
            host, port = near.addresses[0].split(":")
            yield SimpleNamespace(
                far=far, near=near, connect=lambda: asyncio.open_connection(host, int(port)), service=service
            )
            service.close()

    return run


async def settled(*ends: Any) -> None:
    while any(end.stats.open for end in ends):  # noqa: ASYNC110  # shipped objects carry no events for tests
        await asyncio.sleep(0)


async def test_bytes_both_ways_and_half_close(tunnel: Any) -> None:
    async with tunnel(echo) as pair:
        reader, writer = await pair.connect()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.write(b"goodbye")
        writer.write_eof()
        assert await reader.read() == b"goodbye"
        writer.close()
        await settled(pair.near, pair.far)
        for end in (pair.near, pair.far):
            assert (end.stats.sent, end.stats.received) == (12, 12)
            assert end.stats.ended == {"completed": 1}


async def test_fin_reaches_the_application_while_it_still_answers(tunnel: Any) -> None:
    async def answers_after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read()
        writer.write(request.upper())
        writer.close()

    async with tunnel(answers_after_the_end) as pair:
        reader, writer = await pair.connect()
        writer.write(b"request")
        writer.write_eof()
        assert await reader.read() == b"REQUEST"
        writer.close()


async def test_the_applications_fin_comes_first(tunnel: Any) -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def ends_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"banner")
        writer.write_eof()
        got.set_result(await reader.read())
        writer.close()

    async with tunnel(ends_first) as pair:
        reader, writer = await pair.connect()
        assert await reader.read() == b"banner"
        writer.write(b"after your end")
        writer.close()
        assert await got == b"after your end"


async def test_many_megabytes_both_ways(tunnel: Any) -> None:
    data = random.Random(3).randbytes(10_000_000)  # noqa: S311  # data, not a secret
    async with tunnel(echo) as pair:
        reader, writer = await pair.connect()

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            back = group.create_task(reader.read())
        writer.close()
    assert hashlib.sha256(back.result()).digest() == hashlib.sha256(data).digest()


def reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_reset_of_the_client_resets_the_application(tunnel: Any, until: Any) -> None:
    got: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(1)
            await reader.read()
        except ConnectionResetError as error:
            got.set_result(error)
        writer.close()

    async with tunnel(service) as pair:
        _reader, writer = await pair.connect()
        writer.write(b"x")
        await until(lambda: pair.far.stats.received)
        reset(writer)
        assert isinstance(await got, ConnectionResetError)
        await settled(pair.near, pair.far)
        assert pair.near.stats.ended == {"plaintext_failed": 1}
        assert pair.far.stats.ended == {"channel_truncated": 1}


async def test_a_reset_of_the_application_resets_the_client(tunnel: Any) -> None:
    async def service(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        reset(writer)

    async with tunnel(service) as pair:
        reader, writer = await pair.connect()
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_an_application_that_is_not_there_resets_the_client(
    tunnel: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with tunnel(echo) as pair:
        pair.service.close()
        reader, writer = await pair.connect()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert pair.far.stats.ended == {"plaintext_failed": 1}
    assert any("does not accept" in text for text in caplog.messages)


async def test_a_far_end_that_is_not_there_resets_the_client(psk: SimpleNamespace, owned: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with connect_tunnel(
            LoopbackAddress("127.0.0.1", 0), taken.getsockname(), psk.client(), **owned()
        ) as near:
            host, port = near.addresses[0].split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            assert near.stats.ended == {"channel_peer_unreachable": 1}


async def test_a_wrong_key_at_the_far_end_resets_the_client(psk: SimpleNamespace, owned: Any) -> None:
    other, near_end = psk.server({psk.identity: b"w" * 32}), LoopbackAddress("127.0.0.1", 0)
    async with (
        serve_tunnel("127.0.0.1", 0, LoopbackAddress("127.0.0.1", 1), other, **owned()) as far,
        connect_tunnel(near_end, far.addresses[0], psk.client(), **owned()) as near,
    ):
        host, port = near.addresses[0].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"secret before the handshake")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert near.stats.ended == {"channel_peer_refused": 1}


async def test_a_slow_application_holds_the_sender_back(tunnel: Any) -> None:
    release = asyncio.Event()
    total, received = 64_000_000, 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await release.wait()
        while data := await reader.read(1 << 20):
            received += len(data)
        writer.close()

    async with tunnel(slow) as pair:
        reader, writer = await pair.connect()
        sending = asyncio.create_task(_send(writer, total))
        before = -1
        while pair.near.stats.sent != before or not before:
            before = pair.near.stats.sent
            for _ in range(300):  # turns of the event loop without one more byte taken
                await asyncio.sleep(0)
        assert not sending.done()
        assert pair.near.stats.sent < total // 2
        release.set()
        await sending
        assert await reader.read() == b""
        writer.close()
    assert received == total


async def _send(writer: asyncio.StreamWriter, total: int) -> None:
    for _ in range(total // 1_000_000):
        writer.write(bytes(1_000_000))
        await writer.drain()
    writer.write_eof()


async def test_an_ended_lease_ends_open_connections_as_resets(tunnel: Any, caplog: pytest.LogCaptureFixture) -> None:
    registry = ChannelRegistry()
    async with tunnel(echo, server={"registry": registry}) as pair:
        reader, writer = await pair.connect()
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        registry.abort_all(LeaseEndedError("lease ended: bob"))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await settled(pair.near, pair.far)
        assert pair.far.stats.ended == {"lease_ended": 1}
        assert pair.near.stats.ended == {"channel_truncated": 1}
    assert any("lease ended: bob" in text for text in caplog.messages)


async def test_fifty_connections_at_once(tunnel: Any) -> None:
    async def one(pair: SimpleNamespace, number: int) -> None:
        reader, writer = await pair.connect()
        writer.write(bytes([number]) * 20_000)
        writer.write_eof()
        assert await reader.read() == bytes([number]) * 20_000
        writer.close()

    async with tunnel(echo) as pair:
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(one(pair, number))
        await settled(pair.near, pair.far)
        assert pair.near.stats.ended == {"completed": 50}


async def test_connections_above_the_cap_are_reset(tunnel: Any) -> None:
    async with tunnel(echo, client={"limits": Limits(connections=1)}) as pair:
        reader, writer = await pair.connect()
        writer.write(b"first")
        assert await reader.readexactly(5) == b"first"
        second, refused = await pair.connect()
        with pytest.raises(ConnectionResetError):
            await second.read()
        for end in (writer, refused):
            end.close()


@pytest.mark.parametrize("end", ["near", "far"])
async def test_stopping_lets_connections_finish_within_the_grace(tunnel: Any, end: str) -> None:
    async with tunnel(echo) as pair:
        reader, writer = await pair.connect()
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        stopping = asyncio.create_task(getattr(pair, end).aclose(30))
        writer.write(b"to the end")
        writer.write_eof()
        assert await reader.read() == b"to the end"
        writer.close()
        await stopping
        assert getattr(pair, end).stats.ended == {"completed": 1}


@pytest.mark.parametrize("end", ["near", "far"])
async def test_stopping_resets_what_is_open_after_the_grace(tunnel: Any, end: str) -> None:
    async with tunnel(echo) as pair:
        reader, writer = await pair.connect()
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        await getattr(pair, end).aclose(0.01)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_unix_sockets_on_both_plaintext_ends(psk: SimpleNamespace, owned: Any, tmp_path: Path) -> None:
    application, near_path = str(tmp_path / "app.sock"), str(tmp_path / "near.sock")
    service = await asyncio.start_unix_server(echo, application)
    async with (
        serve_tunnel("127.0.0.1", 0, UnixAddress(application), psk.server(), **owned()) as far,
        connect_tunnel(UnixAddress(near_path), far.addresses[0], psk.client(), **owned()) as near,
    ):
        assert near.addresses == [near_path]
        reader, writer = await asyncio.open_unix_connection(near_path)
        writer.write(b"through two sockets")
        writer.write_eof()
        assert await reader.read() == b"through two sockets"
        writer.close()
        await settled(near, far)
    assert not await asyncio.to_thread(Path(near_path).exists)
    service.close()


async def test_a_plaintext_address_in_use_is_a_configuration_error(tunnel: Any, psk: Any, owned: Any) -> None:
    async with tunnel(echo) as pair:
        host, port = pair.near.addresses[0].split(":")
        with pytest.raises(ConfigurationError, match="cannot listen"):
            async with connect_tunnel(LoopbackAddress(host, int(port)), ("127.0.0.1", 1), psk.client(), **owned()):
                pass


async def test_the_network_sees_no_plaintext(psk: SimpleNamespace, owned: Any) -> None:
    seen = bytearray()
    marker = b"marker-of-the-plaintext"
    service = await asyncio.start_server(echo, "127.0.0.1", 0)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            seen.extend(data)
            writer.write(data)
        writer.close()

    async with serve_tunnel(
        "127.0.0.1", 0, LoopbackAddress(*service.sockets[0].getsockname()), psk.server(), **owned()
    ) as far:

        async def spy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(*far.addresses[0])
            await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))

        network = await asyncio.start_server(spy, "127.0.0.1", 0)
        async with connect_tunnel(
            LoopbackAddress("127.0.0.1", 0), network.sockets[0].getsockname(), psk.client(), **owned()
        ) as near:
            host, port = near.addresses[0].split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(marker)
            writer.write_eof()
            assert await reader.read() == marker
            writer.close()
            await settled(near)
        network.close()
    service.close()
    assert psk.identity.encode() in seen
    assert marker not in seen
    assert psk.key not in seen


def test_error_codes_are_distinct() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, WorkloadError)]
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)
