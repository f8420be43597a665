"""systemd's watchdog hears from a broker whose event loop and ledger answer, and from no other."""

import asyncio
import contextlib
import os
import socket
import threading

import pytest

from mcbn_broker.app.watchdog import feed_watchdog
from mcbn_broker.errors import StorageError
from mcbn_broker.storage.ledger import GroupLedger


@pytest.fixture
def systemd(tmp_path):
    """The socket that hears what a service says."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


@pytest.fixture
def environment(systemd):
    return {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "2000", "WATCHDOG_PID": str(os.getpid())}


@contextlib.asynccontextmanager
async def fed(store, environment):
    ledger = GroupLedger(store)
    task = asyncio.create_task(feed_watchdog(ledger, environment))
    yield task
    task.cancel()
    await ledger.aclose()


async def heard(systemd) -> bytes:
    return await asyncio.get_running_loop().sock_recv(systemd, 100)


def pending(systemd) -> bytes | None:
    try:
        return systemd.recv(100)
    except BlockingIOError:
        return None


async def test_a_healthy_broker_is_heard_again_and_again(store, systemd, environment):
    async with fed(store, environment):
        assert [await heard(systemd) for _ in range(3)] == [b"WATCHDOG=1"] * 3


async def test_a_ledger_that_hangs_is_silence(store, systemd, environment, monkeypatch):
    entered, opened = threading.Event(), threading.Event()
    real = store.journal._database.write

    @contextlib.contextmanager
    def write(*, wait):
        with real(wait=wait) as connection:
            yield connection
            entered.set()
            opened.wait()

    monkeypatch.setattr(store.journal._database, "write", write)
    async with fed(store, environment):
        await asyncio.to_thread(entered.wait)
        for _ in range(20):  # many times as long as it takes a healthy one
            await asyncio.sleep(0.001)
        assert pending(systemd) is None
        opened.set()
        assert await heard(systemd) == b"WATCHDOG=1"


async def test_a_database_that_refuses_is_an_answer(store, systemd, environment, monkeypatch):
    def refuse(**_):
        raise StorageError("the disk is full")

    monkeypatch.setattr(store.journal._database, "write", refuse)
    async with fed(store, environment):
        assert await heard(systemd) == b"WATCHDOG=1"


async def test_without_a_watchdog_nothing_is_said(store, systemd, environment):
    del environment["WATCHDOG_USEC"]
    async with fed(store, environment) as task:
        await task
        assert pending(systemd) is None
