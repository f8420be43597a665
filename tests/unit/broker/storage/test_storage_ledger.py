import asyncio
import contextlib
import sqlite3
import threading
from functools import partial
from typing import Any

import pytest

from mcbn_broker.audit.chain import AuditKind
from mcbn_broker.errors import LockedError, StorageError
from mcbn_broker.release.consent import ConsentState
from mcbn_broker.storage.ledger import BATCH_MAX, GroupLedger


def note(transaction, *, number: int) -> int:
    transaction.append(AuditKind.REJECTED_SUMMARY, 1000, {"number": number})
    return number


def numbers(store) -> list[int]:
    return [one.record["number"] for one in store.audit_tail(1000) if "number" in one.record]


class Gate:
    """Holds the ledger's thread just before each commit until it is opened, or makes the commits fail."""

    def __init__(self, monkeypatch, store) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.threads: list[str] = []
        self.failing = False
        real = store.journal._database.write

        @contextlib.contextmanager
        def write(*, wait: bool = True):
            with real(wait=wait) as connection:
                yield connection
                self.threads.append(threading.current_thread().name)
                failing = self.failing
                self.entered.set()
                self.opened.wait()
                if failing:
                    raise StorageError("the disk is full: nothing was written")

        monkeypatch.setattr(store.journal._database, "write", write)


@contextlib.contextmanager
def another_process_writes(world):
    """Hold the database's only write lock, as the command line does for a moment."""
    with contextlib.closing(sqlite3.connect(world.root / "broker.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_a_single_transaction_is_committed_at_once(store):
    ledger = GroupLedger(store)
    assert await ledger.run(partial(note, number=1)) == 1
    assert (ledger.commits, ledger.recorded) == (1, 1)
    await ledger.aclose()
    assert numbers(store) == [1]


async def test_what_waits_during_a_commit_shares_the_next_one(store, monkeypatch):
    gate = Gate(monkeypatch, store)
    ledger = GroupLedger(store)
    first = asyncio.create_task(ledger.run(partial(note, number=0)))
    await asyncio.to_thread(gate.entered.wait)
    others = [asyncio.create_task(ledger.run(partial(note, number=number))) for number in range(1, 41)]
    await asyncio.sleep(0)
    gate.opened.set()
    assert await asyncio.gather(first, *others) == list(range(41))
    assert ledger.commits == 2
    assert numbers(store) == list(range(41))
    store.verify_audit()
    await ledger.aclose()


async def test_a_batch_has_a_limit(store, monkeypatch):
    gate = Gate(monkeypatch, store)
    ledger = GroupLedger(store)
    tasks = [asyncio.create_task(ledger.run(partial(note, number=number))) for number in range(2 * BATCH_MAX)]
    await asyncio.to_thread(gate.entered.wait)
    gate.opened.set()
    await asyncio.gather(*tasks)
    assert ledger.commits >= 2
    await ledger.aclose()


async def test_those_who_are_ready_at_once_share_a_commit_without_waiting_for_anybody(store):
    ledger = GroupLedger(store)
    assert await asyncio.gather(*(ledger.run(partial(note, number=number)) for number in range(3))) == [0, 1, 2]
    assert (ledger.commits, ledger.recorded) == (1, 3)
    await ledger.run(partial(note, number=3))
    assert ledger.commits == 2
    await ledger.aclose()


async def test_decisions_are_made_on_the_event_loop_and_only_commits_in_the_thread(store, monkeypatch):
    gate = Gate(monkeypatch, store)
    gate.opened.set()
    ledger = GroupLedger(store)
    deciders = await asyncio.gather(*(ledger.run(lambda _: threading.current_thread().name) for _ in range(3)))
    assert set(deciders) == {threading.current_thread().name}
    assert len(gate.threads) == 1
    assert gate.threads[0].startswith("mcbn-ledger")
    await ledger.aclose()


async def test_while_another_process_writes_the_loop_goes_on_and_the_batch_waits_in_the_thread(world, store):
    ledger = GroupLedger(store)

    def work(transaction):
        note(transaction, number=1)
        return threading.current_thread().name

    with another_process_writes(world):
        task = asyncio.create_task(ledger.run(work))
        await asyncio.sleep(0)  # the request
        await asyncio.sleep(0)  # the ledger, which would stand still here for as long as the lock is held
        assert not task.done()
    assert (await task).startswith("mcbn-ledger")
    assert numbers(store) == [1]
    assert await ledger.run(work) == threading.current_thread().name
    await ledger.aclose()


async def test_a_pause_by_another_process_binds_the_next_transaction(world, store):
    store.allow()
    ledger = GroupLedger(store)
    assert (await ledger.run(lambda transaction: transaction.terms().consent.state)) is ConsentState.ALLOWED
    with world.open() as command_line:
        command_line.pause("now")
    assert (await ledger.run(lambda transaction: transaction.terms().consent.state)) is ConsentState.PAUSED
    await ledger.aclose()


async def test_a_lock_that_is_never_released_refuses_the_batch(world, store, monkeypatch):
    monkeypatch.setattr("mcbn_broker.storage.database._PATIENT", "PRAGMA busy_timeout = 1")  # milliseconds
    ledger = GroupLedger(store)
    with another_process_writes(world):
        results = await asyncio.gather(
            *(ledger.run(partial(note, number=number)) for number in range(3)), return_exceptions=True
        )
    assert {type(one) for one in results} == {LockedError}
    await ledger.run(partial(note, number=3))
    assert numbers(store) == [3]
    await ledger.aclose()


async def test_a_commit_that_fails_refuses_the_whole_batch_and_records_none_of_it(store, monkeypatch):
    gate = Gate(monkeypatch, store)
    gate.opened.set()
    gate.failing = True
    ledger = GroupLedger(store)
    calls = [ledger.run(partial(note, number=number)) for number in range(3)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(one) for one in results} == {StorageError}
    assert (numbers(store), ledger.commits, ledger.recorded) == ([], 0, 0)
    gate.failing = False
    await asyncio.gather(*(ledger.run(partial(note, number=number)) for number in range(3)))
    assert numbers(store) == [0, 1, 2]
    store.verify_audit()
    await ledger.aclose()


async def test_nobody_hears_of_success_before_it_is_durable(store, monkeypatch):
    gate = Gate(monkeypatch, store)
    ledger = GroupLedger(store)
    task = asyncio.create_task(ledger.run(partial(note, number=1)))
    await asyncio.to_thread(gate.entered.wait)
    assert not task.done()
    assert numbers(store) == []
    gate.opened.set()
    await task
    assert numbers(store) == [1]
    await ledger.aclose()


async def test_a_fault_in_one_item_fails_that_one_alone(store, monkeypatch):
    gate = Gate(monkeypatch, store)
    ledger = GroupLedger(store)
    first = asyncio.create_task(ledger.run(partial(note, number=0)))
    await asyncio.to_thread(gate.entered.wait)

    def fault(transaction):
        note(transaction, number=99)
        raise ZeroDivisionError

    works: list[Any] = [partial(note, number=1), fault, partial(note, number=2)]
    tasks = [asyncio.create_task(ledger.run(work)) for work in works]
    await asyncio.sleep(0)
    gate.opened.set()
    results = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert [type(one) for one in results] == [int, int, ZeroDivisionError, int]
    assert numbers(store) == [0, 1, 2]
    store.verify_audit()
    await ledger.aclose()


async def test_a_store_that_cannot_begin_refuses_the_whole_batch_and_the_next_one_succeeds(store, monkeypatch):
    def fails(*, wait):
        raise StorageError(f"unreadable, wait={wait}")

    ledger = GroupLedger(store)
    with monkeypatch.context() as patch:
        patch.setattr(store.journal._database, "write", fails)
        calls = [ledger.run(partial(note, number=number)) for number in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert {str(one) for one in results} == {"unreadable, wait=False"}
    await ledger.run(partial(note, number=7))
    assert numbers(store) == [7]
    await ledger.aclose()


async def test_a_caller_that_went_away_changes_nothing_for_the_others(store, monkeypatch):
    gate = Gate(monkeypatch, store)
    ledger = GroupLedger(store)
    tasks = [asyncio.create_task(ledger.run(partial(note, number=number))) for number in range(3)]
    await asyncio.to_thread(gate.entered.wait)
    tasks[1].cancel()
    gate.opened.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in results] == [int, asyncio.CancelledError, int]
    assert numbers(store) == [0, 1, 2]
    await ledger.aclose()


async def test_nobody_is_left_to_hear_of_a_failure(store, monkeypatch):
    gate = Gate(monkeypatch, store)
    gate.failing = True
    ledger = GroupLedger(store)
    task = asyncio.create_task(ledger.run(partial(note, number=1)))
    await asyncio.to_thread(gate.entered.wait)
    task.cancel()
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.failing = False
    await ledger.run(partial(note, number=2))
    assert numbers(store) == [2]
    await ledger.aclose()


async def test_closing_finishes_what_waits_and_takes_nothing_more(store, monkeypatch):
    gate = Gate(monkeypatch, store)
    ledger = GroupLedger(store)
    tasks = [asyncio.create_task(ledger.run(partial(note, number=number))) for number in range(20)]
    await asyncio.to_thread(gate.entered.wait)
    closing = asyncio.create_task(ledger.aclose())
    await asyncio.sleep(0)
    gate.opened.set()
    await closing
    assert await asyncio.gather(*tasks) == list(range(20))
    with pytest.raises(StorageError, match="stopping"):
        await ledger.run(partial(note, number=99))
