"""Foreign programs at the other end: how they are started, spoken to and ended. Their keys are throwaway."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from mcbn_protocol.secret import Secret
from mcbn_workload.channels.listener import ChannelServer, serve_channels
from mcbn_workload.channels.registry import ChannelRegistry, Limits
from mcbn_workload.channels.streams import Channel
from mcbn_workload.channels.tls_psk import TlsPskServer

IDENTITY: Final = "mcbn1.AAECAwQFBgcICQoLDA0ODw"
KEY: Final = bytes(range(32))
WRONG_KEY: Final = b"\xff" * 32
HANGS_SECONDS: Final = 60  # without a word that a test waits for
SCRIPTS: Final = Path(__file__).parent / "programs"


def owned(handshake_seconds: float = 30) -> dict[str, Any]:
    return {
        "guard": lambda _identity: None,
        "registry": ChannelRegistry(),
        "limits": Limits(handshake_seconds=handshake_seconds, close_seconds=5),
    }


class Peer:
    """A foreign program with its standard input, and its standard output and error joined."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self.stdin, self.stdout = process, process.stdin, process.stdout
        self.said = bytearray()

    async def until(self, pattern: bytes) -> re.Match[bytes]:
        """Read until the pattern was said; fails with all that was said when the program ends before, or hangs."""
        while not (found := re.search(pattern, self.said)):
            try:
                piece = await asyncio.wait_for(self.stdout.read(65536), HANGS_SECONDS)
            except TimeoutError:
                piece = b""
            if not piece:
                pytest.fail(f"{pattern!r} was not said: {self.said.decode(errors='replace')}")
            self.said += piece
        return found

    def say(self, data: bytes) -> None:
        self.stdin.write(data)

    async def rest(self) -> bytes:
        """Close its input and return all that it ever said."""
        self.stdin.close()
        self.said += await self.stdout.read()
        return bytes(self.said)

    def listening_port(self) -> int:
        """The port of a program that listens on one of the system's choice and does not say which."""
        found = [
            one.laddr.port
            for one in psutil.Process(self.process.pid).net_connections(kind="inet4")
            if one.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
        ]
        assert len(found) == 1, found
        return int(found[0])


@asynccontextmanager
async def program(*command: str | Path, cwd: Path | None = None) -> AsyncIterator[Peer]:
    pipe, joined = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=joined, cwd=cwd)
    try:
        yield Peer(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def echo(channel: Channel) -> None:
    while data := await channel.read():
        await channel.write(data)
    await channel.write_eof()


@asynccontextmanager
async def our_server(suites: list[str] | None = None) -> AsyncIterator[ChannelServer]:
    """Our TLS-PSK server, which echoes, on a port of the system's choice; it notes each channel's suite."""
    table = {IDENTITY.encode(): Secret(KEY)}

    async def handler(channel: Channel) -> None:
        if suites is not None:
            suites.append(channel.negotiated.suite)
        await echo(channel)

    async with serve_channels("127.0.0.1", 0, TlsPskServer(table.get), handler, **owned()) as server:
        yield server


async def read_exactly(channel: Channel, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := await channel.read()):
        data += piece
    return data
