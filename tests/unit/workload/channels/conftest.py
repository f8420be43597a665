"""Keys, engine factories and event loops for the tests of channels and tunnels."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Final

import pytest
import uvloop

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import mbedtls_session
from mcbn_workload.channels.dtls_psk import DtlsPskClient, DtlsPskServer
from mcbn_workload.channels.mbedtls import MbedDtlsPskClient, MbedDtlsPskServer
from mcbn_workload.channels.registry import ChannelRegistry, Limits
from mcbn_workload.channels.tls_psk import TlsPskClient, TlsPskServer
from tests.unit.workload.channels.both_engines import OLD_SUITE

DATAGRAM_ENDS: Final[Mapping[str, Any]] = {
    "openssl": (DtlsPskClient, DtlsPskServer),
    "mbedtls": (MbedDtlsPskClient, MbedDtlsPskServer),
}


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each asynchronous test here on both event loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def psk() -> SimpleNamespace:
    """An identity, its key, and factories for both ends."""
    identity, key = "mcbn1.AAECAwQFBgcICQoLDA0ODw", bytes(range(32))

    def client(name: str = identity, value: bytes = key) -> TlsPskClient:
        return TlsPskClient(name, Secret(value))

    def server(table: Mapping[str, bytes] | None = None) -> TlsPskServer:
        known = {name.encode(): Secret(value) for name, value in (table or {identity: key}).items()}
        return TlsPskServer(known.get)

    return SimpleNamespace(identity=identity, key=key, client=client, server=server)


@pytest.fixture(params=DATAGRAM_ENDS)
def dtls(request: pytest.FixtureRequest, psk: SimpleNamespace) -> SimpleNamespace:
    """Factories for both ends over datagrams, on each TLS library."""
    library: str = request.param
    client, server = DATAGRAM_ENDS[library]
    known = {psk.identity.encode(): Secret(psk.key)}
    return SimpleNamespace(
        library=library,
        client=lambda name=psk.identity, key=psk.key: client(name, Secret(key)),
        server=lambda: server(known.get),
    )


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Let the event loop turn until something holds; what never holds is ended by the test's timeout."""

    async def turn(holds: Callable[[], object]) -> None:
        while not holds():  # noqa: ASYNC110  # the state of shipped objects, which carry no events for tests
            await asyncio.sleep(0)

    return turn


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    """Only reference counts free memory during the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def owned() -> Callable[..., dict[str, object]]:
    """Arguments for a channel whose keys are live, unless the test says otherwise."""

    def arguments(**changes: object) -> dict[str, object]:
        limits = Limits(handshake_seconds=30, close_seconds=5)
        return {"guard": lambda _identity: None, "registry": ChannelRegistry(), "limits": limits} | changes

    return arguments


@pytest.fixture
def old_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Terms may name the old suite on Mbed TLS, too, so that the floor alone can refuse an old version."""
    monkeypatch.setitem(mbedtls_session.SUITES, OLD_SUITE, ("TLS-PSK-WITH-AES-128-CBC-SHA", 0))
