"""A broker's HTTP layer on a real socket, before a release service that records what reaches it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_broker.api.health import create_health
from mcbn_broker.api.routes import create_api
from mcbn_broker.app.listeners import Server, address_of, bind, broker_server, health_server
from mcbn_broker.settings import Settings
from mcbn_broker.telemetry.metrics import Metrics
from mcbn_protocol.identifiers import RosterHash
from mcbn_protocol.messages import Challenge, ChallengeRequest, ReleaseRequest
from mcbn_protocol.signatures import Envelope, Label, sign


@dataclass
class RecordingService:
    """Answers what it is told to answer, once `open` is set."""

    answer: object = field(default_factory=lambda: Challenge("c" * 55, 100))
    asked: list[object] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def _reply(self, message: object) -> object:
        self.asked.append(message)
        self.entered.release()
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def challenge(self, request: ChallengeRequest) -> object:
        return await self._reply(request)

    async def release(self, request: ReleaseRequest, *, correlation_id: str) -> object:
        return await self._reply((request, correlation_id))

    async def manifest_bundle(self) -> object:
        return await self._reply("manifest")

    async def audit_head(self) -> object:
        return await self._reply("audit-head")

    def reject(self, code: str) -> None:
        self.rejected.append(code)


@dataclass
class Running:
    """A broker's two listeners."""

    service: RecordingService
    broker: Server
    host: str
    port: int
    health_port: int
    metrics: Metrics

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def health_url(self) -> str:
        return f"http://{self.host}:{self.health_port}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port)


Start = Callable[..., contextlib.AbstractAsyncContextManager[Running]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    @contextlib.asynccontextmanager
    async def run(**changes: object) -> AsyncIterator[Running]:
        values = {"data_dir": tmp_path, "kek_file": tmp_path / "kek", "listen": "127.0.0.1:0", **changes}
        settings = Settings(**values)  # type: ignore[arg-type]  # pydantic checks
        service, metrics = RecordingService(), Metrics()
        service.open.set()
        parts: dict[str, str | None] = {"store": None}

        async def readiness() -> dict[str, str | None]:
            return parts

        broker = broker_server(create_api(service, settings, metrics), settings)  # type: ignore[arg-type]  # a double
        health = health_server(create_health(readiness, metrics, key_set_age=lambda: 41.6), settings)
        listeners = [bind("127.0.0.1:0", option="--listen") for _ in range(2)]
        ports = [int(address_of(one).rpartition(":")[2]) for one in listeners]
        async with asyncio.TaskGroup() as tasks:
            for server, listener in zip((broker, health), listeners, strict=True):
                tasks.create_task(server.serve(sockets=[listener]))
                await server.listening.wait()
            try:
                yield Running(service, broker, "127.0.0.1", ports[0], ports[1], metrics)
            finally:
                service.open.set()
                await broker.stop()
                await health.stop()

    return run


@pytest.fixture
def signed_document() -> Envelope:
    return sign(Ed25519PrivateKey.generate(), "alice", Label.REFUSAL, RosterHash(bytes(32)), {"code": "consent_paused"})
