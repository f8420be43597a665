"""A client that costs little: keep-alive connections that send prepared HTTP/1.1 requests and time the answers."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_OK: Final = b"HTTP/1.1 200 "


def post(path: str, body: bytes) -> bytes:
    """Return the bytes of a POST request with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


@dataclass
class Answers:
    """The bodies in the order of the requests, and how long each took, in seconds."""

    bodies: list[bytes]
    latencies: list[float]


class Connection:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> bytes:
        """Send one request and return the body of its answer.

        Raises:
            RuntimeError: The answer is not a 200.
        """
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        body = await self._reader.readexactly(content_length(head))
        if not head.startswith(_OK):
            raise RuntimeError(f"an answer that was not expected: {head.decode()}{body.decode()}")
        return body


def content_length(head: bytes) -> int:
    """Return the length of the body that follows these headers, in bytes."""
    lower = head.lower()
    start = lower.index(b"content-length:") + len(b"content-length:")
    return int(lower[start : lower.index(b"\r\n", start)])


class Fleet:
    """Several connections to one server, all busy as long as there are requests."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self.connections = connections

    async def fire(self, requests: Sequence[bytes]) -> Answers:
        """Send every request, each over the connection that is free first."""
        answers = Answers([b""] * len(requests), [0.0] * len(requests))
        waiting = iter(enumerate(requests))
        async with asyncio.TaskGroup() as group:
            for connection in self.connections:
                group.create_task(_work(connection, waiting, answers))
        return answers


async def _work(connection: Connection, waiting: Iterator[tuple[int, bytes]], answers: Answers) -> None:
    for number, request in waiting:
        started = time.perf_counter()
        answers.bodies[number] = await connection.ask(request)
        answers.latencies[number] = time.perf_counter() - started


@contextlib.asynccontextmanager
async def connected(address: str, count: int) -> AsyncIterator[Fleet]:
    """Connect `count` times to `HOST:PORT` while the block runs."""
    host, _, port = address.rpartition(":")
    streams = [await asyncio.open_connection(host, int(port)) for _ in range(count)]
    try:
        yield Fleet([Connection(*pair) for pair in streams])
    finally:
        for _reader, writer in streams:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _reader, writer in streams), return_exceptions=True)
