"""The network's brokers on loopback and a launcher on a unix socket, for whole processes."""

import asyncio
import contextlib
import json
import os
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[4]


@dataclass
class Process:
    """One `mcbn-workload`, and the events that it has logged."""

    process: asyncio.subprocess.Process
    events: list[dict] = field(default_factory=list)

    async def _line(self) -> bytes:
        assert self.process.stderr is not None
        return await self.process.stderr.readline()

    async def event(self, name: str) -> dict:
        """Wait for the next event of this name."""
        while line := await self._line():
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == name:
                return self.events[-1]
        raise AssertionError(f"no event {name}: {self.events}")

    async def end(self) -> int:
        """Wait for its end, read the rest of its log, and return its exit code."""
        while line := await self._line():
            self.events.append(json.loads(line))
        return await self.process.wait()


class RealTime:
    """What the brokers of other processes go by."""

    @property
    def wall(self) -> float:
        return time.time()


class Machine:
    """What surrounds a workload: brokers, launcher, configuration, environment."""

    def __init__(self, network, folder: Path) -> None:
        self.network = network
        self.folder = folder
        self.urls: dict[str, str] = {}
        self.processes: list[Process] = []

    def configuration(self, role: str, **given: str) -> Path:
        members = {
            "role": role,
            "roster": "roster.json",
            "channel": "tls13-psk",
            "engine": "pyopenssl",
            "launcher_socket": str(self.folder / "tee.sock"),
            "insecure_loopback_brokers": True,
            **given,
        }
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in members.items())
        path = self.network.write_configuration(self.folder, text + "[deadlines]\ngather_seconds = 20\n")
        return path.rename(self.folder / f"{role}.toml")

    def environment(self, **more: str) -> dict[str, str]:
        brokers = {f"MCBN_BROKER_{name.upper()}": url for name, url in self.urls.items()}
        return brokers | more

    async def start(self, *arguments: object, before: tuple[str, ...] = (), **environment: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            *before,
            sys.executable,
            "-m",
            "mcbn_workload",
            *map(str, arguments),
            env={"PATH": os.environ["PATH"]} | self.environment(**environment),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.processes.append(Process(process))
        return self.processes[-1]


async def _read_request(reader: asyncio.StreamReader) -> httpx.Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    method, path, _ = first.split(" ")
    body = await reader.readexactly(int(headers.get("Content-Length", headers.get("content-length", 0))))
    return httpx.Request(method, f"http://127.0.0.1{path}", content=body)


@contextlib.asynccontextmanager
async def _serving(handle, start):
    """Serve HTTP/1.1 with keep-alive."""

    tasks: set[asyncio.Task] = set()

    async def connection(reader, writer):
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await answer(reader, writer)
        writer.close()

    async def answer(reader, writer):
        with contextlib.suppress(ConnectionError):
            while (request := await _read_request(reader)) is not None:
                response = await handle(request)
                kind = response.headers.get("content-type", "text/html")
                head = f"HTTP/1.1 {response.status_code} X\r\nContent-Type: {kind}\r\n"
                writer.write(f"{head}Content-Length: {len(response.content)}\r\n\r\n".encode() + response.content)
                await writer.drain()

    server = await start(connection)
    async with server:
        yield server
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def page_program():
    """Give a function that returns the `main` of the one Python program of a page that has a text in it."""

    def program(page: str, marker: str):
        text = (ROOT / page).read_text()
        (code,) = [one for one in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if marker in one]
        namespace: dict = {}
        exec(compile(code, marker, "exec"), namespace)  # noqa: S102  # our own page
        return namespace["main"]

    return program


@pytest.fixture
async def listening_port(monkeypatch):
    """Give a future: the port of the first server of this test's loop."""
    loop = asyncio.get_running_loop()
    ready, starting = loop.create_future(), loop.create_server

    async def noting(*arguments, **more):
        server = await starting(*arguments, **more)
        ready.set_result(server.sockets[0].getsockname()[1])
        return server

    monkeypatch.setattr(loop, "create_server", noting)
    return ready


@pytest.fixture
async def machine(network, tmp_path):
    async def launcher(_request):
        return httpx.Response(200, content=b"e30.e30.c2ln")

    network.time = RealTime()
    machine = Machine(network, tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(
            _serving(launcher, lambda handle: asyncio.start_unix_server(handle, tmp_path / "tee.sock"))
        )
        for name, broker in network.brokers.items():
            server = await stack.enter_async_context(
                _serving(broker.handle, lambda handle: asyncio.start_server(handle, "127.0.0.1", 0))
            )
            machine.urls[name] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield machine
        finally:
            for one in machine.processes:
                if one.process.returncode is None:
                    one.process.kill()
                await one.process.communicate()
