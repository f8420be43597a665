"""The release API as an ASGI application, before a release service that answers what it is told to."""

from pathlib import Path
from typing import Any

import pytest

from mcbn_broker.api.routes import create_api
from mcbn_broker.settings import Settings
from mcbn_broker.telemetry.metrics import Metrics
from mcbn_protocol.messages import Challenge


class Service:
    """Answers with a challenge, or raises."""

    def __init__(self) -> None:
        self.answer: Any = Challenge("c" * 54 + "A", 100)
        self.asked: list[Any] = []
        self.rejected: list[str] = []

    async def challenge(self, request: Any) -> Any:
        self.asked.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def manifest_bundle(self) -> bytes:
        return b"{}"

    def reject(self, code: str) -> None:
        self.rejected.append(code)


@pytest.fixture
def service() -> Any:
    return Service()


@pytest.fixture
def api(service):
    settings = Settings(data_dir=Path("data"), kek_file=Path("kek"), rate_per_second=0, body_seconds=0.05)
    return create_api(service, settings, Metrics())
