"""The server's application, an HTTP server that knows nothing of channels, and a visitor that keeps its connection."""

import asyncio
import contextlib
import re
import sys
from pathlib import Path
from typing import Final, Self

from mcbn_simulator.demo.processes import DemoError, Supervisor

PAGE: Final = "The three of us agree that you may read this.\n"
_PORT: Final = re.compile(r"Serving HTTP on 127\.0\.0\.1 port (\d+)")
_ANSWER_SECONDS: Final = 10


async def start_application(supervisor: Supervisor, site: Path) -> str:
    """Serve the page on loopback; returns `127.0.0.1:PORT`."""
    (site / "index.html").write_text(PAGE, encoding="utf-8")
    process = await supervisor.start(
        "application",
        sys.executable,
        *("-I", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1", "--directory", site),
    )
    said = await process.event("its port", lambda event: _PORT.match(event.text) is not None)
    found = _PORT.match(said.text)
    return f"127.0.0.1:{found[1] if found else 0}"


class Visitor:
    """Reads pages over one connection through the tunnel, and notices when it ends.

    Args:
        reader: From the tunnel.
        writer: To the tunnel.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def come(cls, plain: Path) -> Self:
        """Connect to the client's plaintext end, a unix socket.

        Raises:
            DemoError: Nobody is there.
        """
        try:
            return cls(*await asyncio.open_unix_connection(plain))
        except OSError as error:
            raise DemoError(f"The client's plaintext end does not accept: {error}") from error

    async def read_page(self) -> str:
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
