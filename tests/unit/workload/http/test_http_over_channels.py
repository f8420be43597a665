"""HTTP over channels: httpx at one end, an ASGI application at the other, and what happens when either misbehaves."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from mcbn_protocol.secret import Secret
from mcbn_workload.channels.errors import ChannelClosedError
from mcbn_workload.channels.listener import serve_channels
from mcbn_workload.channels.registry import ChannelRegistry, Limits
from mcbn_workload.channels.streams import open_channel
from mcbn_workload.channels.tls_psk import TlsPskClient, TlsPskServer
from mcbn_workload.http import ChannelTransport, serve_asgi

IDENTITY, KEY = "mcbn1.http", Secret(bytes(range(32)))


RELEASED = asyncio.Event()


async def application(scope, receive, send):
    """Echo the body; `/stream` answers in pieces, `/fail` not at all, `/half` to the half, `/ignore` reads nothing."""
    path = scope["path"]
    body = b""
    while path not in {"/ignore", "/fail"}:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message["body"]
        if not message["more_body"]:
            break
    if path == "/fail":
        raise RuntimeError("on purpose")
    headers = [(b"x-identity", scope["extensions"]["mcbn"]["identity"].encode()), (b"x-query", scope["query_string"])]
    if path == "/half":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("on purpose")
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if path == "/held":
        await send({"type": "http.response.body", "body": b"one ", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        RELEASED.set()
        return
    if path == "/stream":
        for piece in (b"one ", b"two ", b""):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": body})
    if path == "/linger":
        assert (await receive())["type"] == "http.disconnect"


def owned(registry) -> dict[str, Any]:
    limits = Limits(handshake_seconds=5, close_seconds=5)
    return {"guard": lambda _identity: None, "registry": registry, "limits": limits}


class Lab:
    def __init__(self, server):
        self.address = server.addresses[0]
        self.opened = 0
        self.refuse = None
        self.registry = ChannelRegistry()

    @asynccontextmanager
    async def connect(self):
        if self.refuse is not None:
            raise self.refuse
        self.opened += 1
        factory = TlsPskClient(IDENTITY, KEY)
        host, port = self.address
        async with await open_channel(host, port, factory, **owned(self.registry)) as channel:
            yield channel


@pytest.fixture
async def lab():
    factory, handler = TlsPskServer({IDENTITY.encode(): KEY}.get), serve_asgi(application)
    async with serve_channels("127.0.0.1", 0, factory, handler, **owned(ChannelRegistry())) as server:
        yield Lab(server)


@pytest.fixture
async def client(lab):
    async with httpx.AsyncClient(transport=ChannelTransport(lab.connect), base_url="http://any.example") as client:
        yield client


async def test_requests_share_a_channel(lab, client):
    for number in range(3):
        answer = await client.post("/echo?a=b", content=b"x" * number * 100_000)
        assert (answer.status_code, len(answer.content)) == (200, number * 100_000)
        assert (answer.headers["x-identity"], answer.headers["x-query"]) == (IDENTITY, "a=b")
    assert lab.opened == 1


async def test_an_answer_in_pieces(client):
    async with client.stream("GET", "/stream") as answer:
        assert [piece async for piece in answer.aiter_raw()] == [b"one ", b"two "]


async def test_a_body_that_nobody_read_does_not_disturb_the_next_request(client):
    assert (await client.post("/ignore", content=b"x" * 300_000)).status_code == 200
    assert (await client.get("/linger")).status_code == 200
    assert (await client.request("HEAD", "/echo")).content == b""


async def test_a_failing_application_is_a_500_and_the_next_channel_works(lab, client):
    assert (await client.get("/fail")).status_code == 500
    assert (await client.get("/echo")).status_code == 200
    assert lab.opened == 2


async def test_an_application_that_fails_in_the_middle_is_no_complete_answer(client):
    with pytest.raises(httpx.TransportError):
        await client.get("/half")


async def test_a_body_is_asked_for_when_the_client_waits(client):
    answer = await client.post("/echo", content=b"after 100", headers={"expect": "100-continue"})
    assert answer.content == b"after 100"


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01 nonsense\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20_000])
async def test_what_is_not_http_is_refused(lab, garbage):
    async with lab.connect() as channel:
        await channel.write(garbage)
        said = b""
        while data := await channel.read():
            said += data
    assert said.startswith(b"HTTP/1.1 4")


async def test_a_silent_close_ends_the_exchange(lab):
    async with lab.connect() as channel:
        await channel.write_eof()
        assert await channel.read() == b""


async def test_no_channel_is_a_connect_error_with_its_reason(lab, client):
    lab.refuse = ChannelClosedError("no keys are live")
    with pytest.raises(httpx.ConnectError, match="no keys are live") as caught:
        await client.get("/echo")
    assert caught.value.__cause__ is not None


async def test_a_channel_that_ends_fails_its_request_and_is_not_used_again(lab, client):
    assert (await client.get("/echo")).status_code == 200
    lab.registry.abort_all(ChannelClosedError("the lease has ended"))
    assert (await client.get("/echo")).status_code == 200
    assert lab.opened == 2


async def test_a_channel_that_ends_under_a_body(lab, client):
    RELEASED.clear()
    async with client.stream("GET", "/held") as answer:
        lab.registry.abort_all(ChannelClosedError("the lease has ended"))
        with pytest.raises(httpx.ReadError, match="lease has ended"):
            await answer.aread()
    await RELEASED.wait()  # the application learns it, too


async def test_only_plain_urls_are_carried(client):
    with pytest.raises(httpx.UnsupportedProtocol):
        await client.get("https://any.example/echo")


async def test_deadlines_are_httpxs_own(lab):
    @asynccontextmanager
    async def never():
        async with lab.connect() as channel:
            channel.read = lambda _size: asyncio.Event().wait()
            yield channel

    async with httpx.AsyncClient(transport=ChannelTransport(never), base_url="http://a", timeout=0.05) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/echo")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nAuthorization Bearer hunter2\r\n\r\n",
        b"hunter2 event=channel_open\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nhunter2\r\n",
    ],
)
async def test_what_is_no_http_is_refused_and_none_of_it_is_logged(lab, caplog, sent):
    async with lab.connect() as channel:
        await channel.write(sent)
        answer = await channel.read()
    assert answer.startswith(b"HTTP/1.1 400")
    assert "hunter2" not in caplog.text
    (line,) = [one for one in caplog.records if getattr(one, "event", "") == "http_malformed"]
    assert line.getMessage().endswith("did not speak HTTP: 400")
