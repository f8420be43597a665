"""Stands between two ends on loopback and writes down what each says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from capture.packets import Said

HOST: Final = "127.0.0.1"
_READ_BYTES: Final = 64 * 1024


@asynccontextmanager
async def stream_relay(port: int, said: list[Said]) -> AsyncIterator[int]:
    """Give a port whose one connection leads to another; what passes is appended to `said`, to its very end."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, port)
        await asyncio.gather(
            _carry(reader, far_writer, said, by_client=True), _carry(far_reader, writer, said, by_client=False)
        )
        for one in (writer, far_writer):
            one.close()
        ended.set()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        yield int(server.sockets[0].getsockname()[1])
        await ended.wait()


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: list[Said], *, by_client: bool
) -> None:
    while data := await reader.read(_READ_BYTES):
        said.append(Said(by_client, data))
        writer.write(data)
    with suppress(OSError):  # that end has closed both directions
        writer.write_eof()


class _Towards(asyncio.DatagramProtocol):
    """One side of a relay: what arrives here goes out on the other."""

    def __init__(self, said: list[Said], *, by_client: bool) -> None:
        self._said = said
        self._by_client = by_client
        self.sender: Any = None  # the address that was last heard
        self.onward: Callable[[bytes], None] = lambda _data: None

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Take one datagram."""
        self._said.append(Said(self._by_client, data))
        self.sender = addr
        self.onward(data)


@asynccontextmanager
async def datagram_relay(port: int, said: list[Said]) -> AsyncIterator[int]:
    """Do the same for the datagrams of one client."""
    loop = asyncio.get_running_loop()
    near, client = await loop.create_datagram_endpoint(lambda: _Towards(said, by_client=True), local_addr=(HOST, 0))
    far, server = await loop.create_datagram_endpoint(lambda: _Towards(said, by_client=False), local_addr=(HOST, 0))
    client.onward = lambda data: far.sendto(data, (HOST, port))
    server.onward = lambda data: near.sendto(data, client.sender)
    try:
        yield int(near.get_extra_info("sockname")[1])
    finally:
        near.close()
        far.close()
