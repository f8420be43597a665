"""Takes the reports of the applications in the VMs, and lets the acts wait for them."""

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcbn_smoke.errors import SmokeError
from mcbn_smoke.redaction import redacted_token

_LINE_BYTES: Final = 64 * 1024
_LINE_SECONDS: Final = 10


@dataclass(frozen=True)
class Report:
    """What an application has said.

    Attributes:
        at: When it came, on the clock of `time.monotonic`.
        role: Who said it.
        event: What happened.
        text: The rest of it; of a token, nothing.
    """

    at: float
    role: str
    event: str
    text: str


class Collector:
    """Everything that was reported so far.

    Attributes:
        reports: In order of arrival.
        tokens: By role, what is kept of a token.
    """

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.tokens: dict[str, Mapping[str, Any]] = {}
        self._news = asyncio.Condition()

    async def report(self, role: str, event: str, *, seconds: float, after: int = 0) -> Report:
        """Wait for a report, also one that has come already.

        Args:
            role: Who.
            event: What.
            seconds: How long to wait.
            after: How many of the first reports not to look at.

        Raises:
            SmokeError: It does not come.
        """

        def found() -> Report | None:
            return next((one for one in self.reports[after:] if (one.role, one.event) == (role, event)), None)

        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: found() is not None)
        except TimeoutError:
            said = ", ".join(f"{one.role}: {one.event}" for one in self.reports) or "nothing"
            raise SmokeError(f"No {event} from the {role}'s VM in {seconds:g} s; so far came: {said}") from None
        report = found()
        assert report is not None  # noqa: S101  # for the type checker: it was just there
        return report

    async def take(self, line: bytes) -> None:
        """Keep one line; a token is redacted before it is kept.

        Raises:
            ValueError: It is no report.
        """
        members = json.loads(line)
        role, event, text = (str(members[name]) for name in ("role", "event", "text"))
        if event == "token":
            self.tokens[role] = redacted_token(text)
            text = ""
        async with self._news:
            self.reports.append(Report(time.monotonic(), role, event, text))
            self._news.notify_all()


@contextlib.asynccontextmanager
async def collecting(listener: socket.socket, certificate: Path, key: Path) -> AsyncGenerator[Collector]:
    """Take reports as long as the block runs.

    Args:
        listener: Where they come in.
        certificate: PEM.
        key: Its private key, PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    collector, serving = Collector(), set[asyncio.Task[None]]()

    async def take_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError, KeyError, TypeError, TimeoutError):
            async with asyncio.timeout(_LINE_SECONDS):
                await collector.take(await reader.readuntil(b"\n"))
                writer.write(b"\n")
                await writer.drain()
                writer.close()
                await writer.wait_closed()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(take_one(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)
        task.add_done_callback(lambda _task: writer.transport.abort())

    async with await asyncio.start_server(serve, sock=listener, ssl=context, limit=_LINE_BYTES) as server:
        await server.start_serving()
        try:
            yield collector
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
