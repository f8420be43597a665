"""Who uses the server's applications through a channel, and notices when it ends."""

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any, Final, Protocol, Self

from mcbn_simulator.demo.processes import DemoError

QUESTION: Final = b"may i speak?"
_ANSWER_SECONDS: Final = 10
_AGAIN_SECONDS: Final = 1


class Visitor(Protocol):
    """A connection through a channel."""

    async def ask(self) -> str:
        """Use the application once; returns what it said.

        Raises:
            DemoError: It said nothing, or something else.
        """

    async def ended(self) -> None:
        """Wait until the connection has ended.

        Raises:
            DemoError: It does not end.
        """

    def leave(self) -> None:
        """End the connection from this side."""


class PageVisitor:
    """Reads pages over one connection through the tunnel, and notices when it ends.

    Args:
        reader: From the tunnel.
        writer: To the tunnel.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def come(cls, plain: Path | tuple[str, int]) -> Self:
        """Connect to the client's plaintext end, a unix socket or a host and port.

        Raises:
            DemoError: Nobody is there.
        """
        try:
            if isinstance(plain, tuple):
                return cls(*await asyncio.open_connection(*plain))
            return cls(*await asyncio.open_unix_connection(plain))
        except OSError as error:
            raise DemoError(f"The client's plaintext end does not accept: {error}") from error

    async def ask(self) -> str:
        """Fetch the page (HTTP/1.1, RFC 9112), and keep the connection.

        Raises:
            DemoError: There is no page.
        """
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                self._writer.write(b"GET /index.html HTTP/1.1\r\nHost: application\r\n\r\n")
                head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = re.search(r"(?im)^content-length: (\d+)\r$", head)
                if not head.startswith("HTTP/1.1 200 ") or length is None:
                    raise DemoError(f"The application answers:\n{head}")
                return (await self._reader.readexactly(int(length[1]))).decode()
        except (TimeoutError, EOFError, OSError) as error:
            raise DemoError(f"No page came through the tunnel: {error!r}") from error

    async def ended(self) -> None:
        """Wait until the tunnel ends the connection.

        Raises:
            DemoError: It does not.
        """
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                with contextlib.suppress(ConnectionError):
                    while await self._reader.read(1024):
                        pass
        except TimeoutError as error:
            raise DemoError("The visitor's connection is still open.") from error

    def leave(self) -> None:
        """End the connection from this side."""
        self._writer.close()


class DatagramVisitor(asyncio.DatagramProtocol):
    """Asks over datagrams, again and again until an answer comes: any of them may be lost."""

    def __init__(self) -> None:
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._transport: Any = None

    @classmethod
    async def come(cls, address: str) -> Self:
        """Open a socket to the client's plaintext end, `127.0.0.1:PORT`."""
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        _transport, made = await loop.create_datagram_endpoint(cls, remote_addr=(host, int(port)))
        return made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket over."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002  # the event loop's signature
        """Keep an answer."""
        self._answers.put_nowait(data)

    async def ask(self) -> str:
        """Ask, and wait for the answer."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._answer()
        except TimeoutError as error:
            raise DemoError("No datagram came back through the tunnel.") from error

    async def _answer(self) -> str:
        while True:
            self._transport.sendto(QUESTION)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_SECONDS):
                    return (await self._answers.get()).decode()

    async def ended(self) -> None:
        """Return at once: a datagram socket has no end to be seen; the workload's own words say it."""

    def leave(self) -> None:
        """Close the socket."""
        self._transport.close()
