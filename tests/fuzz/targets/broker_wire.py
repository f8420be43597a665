"""HTTP/1.1 as a broker's connection receives it: any bytes, in two pieces."""

import asyncio
from pathlib import Path
from typing import Any

import uvicorn
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from mcbn_broker.api.http import read_body
from mcbn_broker.app.listeners import broker_server
from mcbn_broker.errors import BrokerError
from mcbn_broker.settings import Settings
from mcbn_protocol.errors import MalformedError
from tests.fuzz.material import run

MAX_BYTES = 24 * 1024
TURNS = 12  # of the event loop, after which nothing is left to do
WORDS = tuple(
    b"GET POST HTTP/1.1 HTTP/1.0 Host: Content-Length: Transfer-Encoding: chunked \r\n \r\n\r\n 0\r\n\r\n Connection: "
    b"keep-alive close Upgrade: h2c websocket Expect: 100-continue Content-Type: application/json /v1/releases".split(
        b" "
    )
)


class FakeTransport(asyncio.Transport):
    """Keeps what the connection writes."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 50_000), "sockname": ("192.0.2.2", 443)})
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body as the real one does."""
    try:
        body = await read_body(scope, receive, seconds=5)
        assert len(body) <= 64 * 1024
        status = 200
    except (BrokerError, MalformedError):
        status = 400
    await Response(b"", status)(scope, receive, send)


CONFIG: uvicorn.Config = broker_server(application, Settings(data_dir=Path("/x"), kek_file=Path("/y"))).config
PROTOCOL: Any = CONFIG.http_protocol_class


def seeds() -> list[bytes]:
    head = b"POST /v1/releases HTTP/1.1\r\nHost: alice\r\nContent-Type: application/json\r\n"
    return [
        head + b"Content-Length: 2\r\n\r\n{}",
        head + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"GET /v1/manifest HTTP/1.1\r\nHost: a\r\n\r\n" * 2,
        b"GET / HTTP/1.0\r\n\r\n",
        head + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ]


def target(data: bytes) -> None:
    run(receive(data))


async def receive(data: bytes) -> None:
    loop, transport = asyncio.get_running_loop(), FakeTransport()
    faults: list[Any] = []
    loop.set_exception_handler(lambda _loop, context: faults.append(context))
    protocol: Any = PROTOCOL(config=CONFIG, server_state=ServerState(), app_state={}, _loop=loop)
    protocol.connection_made(transport)
    for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
        if piece and not transport.closed:
            protocol.data_received(piece)
        for _ in range(TURNS):
            await asyncio.sleep(0)
    protocol.connection_lost(None)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    assert not faults, faults
    assert b"HTTP/1.1 5" not in transport.written
