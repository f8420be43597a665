import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from mcbn_broker.audit.chain import AuditKind
from mcbn_broker.errors import StorageError
from mcbn_broker.storage.ledger import BATCH_MAX, GroupLedger


def note(transaction, *, number: int) -> int:
    transaction.append(AuditKind.REJECTED_SUMMARY, 1000, {"number": number})
    return number


def numbers(store) -> list[int]:
    return [one.record["number"] for one in store.audit_tail(1000) if "number" in one.record]


class Gate:
    """Holds the ledger's thread inside of a commit until it is opened."""

    def __init__(self, monkeypatch, store) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        real = store.journal._database.write

        def write():
            self.entered.set()
            self.opened.wait()
            return real()

        monkeypatch.setattr(store.journal._database, "write", write)


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


async def test_it_waits_for_those_on_their_way_until_they_turn_elsewhere(store):
    ledger = GroupLedger(store)
    with ledger.arriving():
        with ledger.arriving():
            first = asyncio.create_task(ledger.run(partial(note, number=1)))
            second = asyncio.create_task(ledger.run(partial(note, number=2)))
            await asyncio.gather(first, second)
        await ledger.run(partial(note, number=3))
    assert ledger.commits == 2
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


async def test_a_failing_store_fails_the_whole_batch_and_the_next_one_succeeds(store, monkeypatch):
    real = store.journal._database.write
    monkeypatch.setattr(store.journal._database, "write", lambda: (_ for _ in ()).throw(StorageError("full")))
    ledger = GroupLedger(store)
    calls = [ledger.run(partial(note, number=number)) for number in range(3)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(one) for one in results} == {StorageError}
    monkeypatch.setattr(store.journal._database, "write", real)
    await ledger.run(partial(note, number=7))
    assert numbers(store) == [7]
    await ledger.aclose()


@pytest.mark.parametrize("fails", [False, True])
async def test_a_caller_that_went_away_changes_nothing(store, monkeypatch, fails):
    gate = Gate(monkeypatch, store)
    ledger = GroupLedger(store)

    def work(transaction):
        if fails:
            raise StorageError("full")
        return note(transaction, number=1)

    task = asyncio.create_task(ledger.run(work))
    await asyncio.to_thread(gate.entered.wait)
    task.cancel()
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ledger.run(partial(note, number=2))
    assert numbers(store) == ([2] if fails else [1, 2])
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
