"""One client that opens, holds or does not read as much as it can; and what the others get meanwhile."""

import asyncio
import datetime as dt
import json
import resource
import socket
import ssl
import subprocess
import sys

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mcbn_broker.app import process_limits

CHALLENGE = json.dumps({"role": "client", "manifest_hash": "0" * 64}).encode()
POST = b"POST /v1/challenges HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
GET = b"GET /v1/manifest HTTP/1.1\r\nhost: x\r\n\r\n"
ANSWER_BYTES = 60_000


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Return the status line of the answer to a good request."""
    writer.write(POST % len(CHALLENGE) + CHALLENGE)
    return (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait for the other end to hang up without a word."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True


async def until_places(running, taken: int) -> None:
    async with asyncio.timeout(20):
        while running.broker.places.taken != taken:  # noqa: ASYNC110  # the count is no event, and a broker needs none
            await asyncio.sleep(0.01)


# --- bodies that never come


async def test_bodies_that_never_come_take_no_place_in_flight(start):
    async with start(in_flight=2) as running:
        slow = [await running.connect() for _ in range(10)]
        for _reader, writer in slow:
            writer.write(POST % 100 + b"{")
            await writer.drain()
        good = await running.connect()
        assert b" 200 " in await ask(*good)
        for _reader, writer in (*slow, good):
            writer.close()


async def test_open_bodies_of_one_client_are_limited(start):
    async with start(bodies_per_client=3) as running:
        slow = [await running.connect() for _ in range(4)]
        for _reader, writer in slow:
            writer.write(POST % 100 + b"{")
        answers = [asyncio.ensure_future(reader.readuntil(b"\r\n\r\n")) for reader, _writer in slow]
        refused, waiting = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().split(b"\r\n")[0] for task in refused] == [b"HTTP/1.1 429 Too Many Requests"]
        for _reader, writer in slow:
            writer.close()
        await asyncio.wait(waiting)
        assert all(task.exception() for task in waiting)


# --- connections


@pytest.mark.parametrize("limits", [{"connections": 10}, {"connections_per_client": 10}])
async def test_connections_beyond_the_limit_are_closed_and_the_old_ones_served(start, limits):
    async with start(header_seconds=60, **limits) as running:
        held = [await running.connect() for _ in range(10)]
        await until_places(running, 10)
        beyond = await running.connect()
        assert await ended(beyond[0])
        assert b" 200 " in await ask(*held[0])
        held[1][1].close()
        await until_places(running, 9)
        again = await running.connect()
        assert b" 200 " in await ask(*again)
        for _reader, writer in (*held, beyond, again):
            writer.close()


@pytest.fixture
def certificate(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "chain.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*encoding))
    return {"tls_certificate": tmp_path / "chain.pem", "tls_key": tmp_path / "key.pem"}


def trusting_nobody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def test_tls_connections_that_say_nothing_have_places_and_a_deadline(start, certificate):
    async with start(header_seconds=0.5, connections=10, **certificate) as running:
        silent = [await running.connect() for _ in range(10)]
        await until_places(running, 10)
        beyond = await running.connect()
        assert await ended(beyond[0])
        await until_places(running, 0)
        assert all([await ended(reader) for reader, _writer in silent])
        good = await asyncio.open_connection(running.host, running.port, ssl=trusting_nobody())
        assert b" 200 " in await ask(*good)
        for _reader, writer in (*silent, beyond, good):
            writer.close()


async def test_a_tls_client_that_talks_something_else_leaves_its_place(start, certificate):
    async with start(header_seconds=60, **certificate) as running:
        reader, writer = await running.connect()
        writer.write(GET)
        await reader.read()
        await until_places(running, 0)
        writer.close()


async def test_stopping_drops_handshakes_that_were_not_finished(start, certificate):
    async with start(header_seconds=60, **certificate) as running:
        reader, writer = await running.connect()
        await until_places(running, 1)
        await running.broker.stop()
        assert await ended(reader)
        assert running.broker.places.taken == 0
        writer.close()


async def test_want_of_file_descriptors_is_survived(start, monkeypatch):
    async with start() as running:
        loop = asyncio.get_running_loop()
        accept, failed = loop.sock_accept, asyncio.Event()

        async def out_of_descriptors(listener):
            connection, address = await accept(listener)
            if not failed.is_set():
                failed.set()
                connection.close()
                raise OSError(24, "Too many open files")
            return connection, address

        monkeypatch.setattr("mcbn_broker.app.acceptor._OUT_OF_RESOURCES_SECONDS", 0)
        monkeypatch.setattr(loop, "sock_accept", out_of_descriptors, raising=False)
        for _ in range(3):
            reader, writer = await running.connect()
            writer.close()
        reader, writer = await running.connect()
        assert b" 200 " in await ask(reader, writer)
        writer.close()
        assert failed.is_set()


# --- answers that nobody reads


def deaf(running) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect((running.host, running.port))
    client.setblocking(False)
    return client


async def test_a_client_that_never_reads_a_large_answer_is_cut_off(start):
    async with start(write_seconds=0.3) as running:
        running.service.answer = b"x" * 2**24
        with deaf(running) as client:
            await asyncio.get_running_loop().sock_sendall(client, GET)
            await running.service.entered.acquire()
            await until_places(running, 0)


async def test_an_answer_too_small_to_pause_the_writer_is_not_kept_for_ever(start):
    async with start(write_seconds=0.3, rate_per_second=0, keep_alive_seconds=1) as running:
        running.service.answer = b"x" * ANSWER_BYTES
        with deaf(running) as client:
            unread = 0
            while not unread:
                await asyncio.get_running_loop().sock_sendall(client, GET)
                await running.service.entered.acquire()
                (connection,) = running.broker.server_state.connections
                while not connection.cycle.response_complete:  # noqa: ASYNC110  # uvicorn's, it has no event
                    await asyncio.sleep(0)
                unread = connection.transport.get_write_buffer_size()
            assert unread < 2**16, "so little that the transport pauses nothing"
            await until_places(running, 0)


async def test_a_slow_reader_gets_all_of_a_large_answer(start):
    async with start(write_seconds=60) as running:
        running.service.answer = b"x" * 2**23
        async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
            assert len((await client.get("/v1/manifest")).content) == 2**23


# --- the process


@pytest.fixture
def limits(monkeypatch):
    current = {resource.RLIMIT_NOFILE: (1024, 4096), resource.RLIMIT_CORE: (-1, -1)}
    monkeypatch.setattr(resource, "getrlimit", current.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", current.__setitem__)
    return current


@pytest.mark.parametrize(("wanted", "room", "soft"), [(100, 100, 1024), (2000, 2000, 2128), (10_000, 3968, 4096)])
def test_file_descriptors_are_raised_as_far_as_connections_need_them(limits, capsys, wanted, room, soft):
    assert process_limits.room_for_connections(wanted) == room
    assert limits[resource.RLIMIT_NOFILE] == (soft, 4096)
    assert ("TOO FEW FILE DESCRIPTORS" in capsys.readouterr().out) == (room < wanted)


def test_core_dumps_are_forbidden(limits):
    process_limits.forbid_core_dumps()
    assert limits[resource.RLIMIT_CORE] == (1, 1)  # 0 would still let a core_pattern that is a pipe have one


def test_core_dumps_stay_forbidden_where_the_limit_cannot_be_raised():
    code = (
        "import os, resource\n"
        "from mcbn_broker.app.process_limits import forbid_core_dumps\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "if os.getuid() == 0: os.setresuid(65532, 65532, 65532)\n"
        "forbid_core_dumps()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout == "(0, 0)\n", result.stderr
