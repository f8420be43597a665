"""Group commit: requests that wait are decided together on the event loop, and share one durable commit in a thread."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from mcbn_broker.errors import BrokerError, LockedError, StorageError
from mcbn_broker.release.stores import Transaction
from mcbn_broker.storage.store import Store

T = TypeVar("T")

BATCH_MAX: Final = 64


@dataclass(frozen=True)
class _Waiting:
    work: Callable[[Transaction], Any]
    future: "asyncio.Future[Any]"


@dataclass(frozen=True)
class _Decided:
    """The results of a batch, of which nobody may hear before `commit` has returned. It may be called in any thread."""

    results: list[Any]
    commit: Callable[[], None]


class GroupLedger:
    """Runs transactions, one batch after the other. `commits` and `recorded` count what became durable.

    The decisions are Python, and would compete with the event loop for the interpreter's lock if a thread made them;
    the commit waits for the disk without that lock. Only where another process writes just now, the whole batch goes
    to the thread, which may wait. What asks meanwhile shares the next batch.
    """

    def __init__(self, store: Store) -> None:
        self.commits = 0
        self.recorded = 0
        self._journal = store.journal
        self._waiting: list[_Waiting] = []
        self._closing = False
        self._serving: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mcbn-ledger")
        self._thread.submit(_nothing)  # starts the thread now: what cannot have one is not to begin to serve

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction and return its result once that is durable.

        Raises:
            BrokerError: Nothing was written; a later try may succeed.
        """
        if self._closing:
            raise StorageError("the broker is stopping: nothing was written")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(work, future))
        if self._serving is None or self._serving.done():  # its turn comes after all requests that are ready now
            self._serving = asyncio.create_task(self._serve())
        return await future

    async def aclose(self) -> None:
        """Finish what waits, and end the thread."""
        self._closing = True
        if self._serving is not None:
            await asyncio.shield(self._serving)
        self._thread.shutdown()

    async def _serve(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            await self._run(batch)

    async def _run(self, batch: list[_Waiting]) -> None:
        try:
            results = await self._record(batch)
        except BrokerError as error:
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001  # a fault in one item must not take down the others, nor this task
            if len(batch) == 1:
                _fail(batch, error)
            else:
                for one in batch:
                    await self._run([one])
        else:
            self.commits += 1
            self.recorded += len(batch)
            _deliver(batch, results)

    async def _record(self, batch: list[_Waiting]) -> list[Any]:
        in_thread = asyncio.get_running_loop().run_in_executor
        try:
            decided = self._decide(batch, wait=False)
        except LockedError:
            return await in_thread(self._thread, self._decide_and_commit, batch)
        await in_thread(self._thread, decided.commit)
        return decided.results

    def _decide(self, batch: list[_Waiting], *, wait: bool) -> _Decided:
        with ExitStack() as opened:  # whatever fails here ends the transaction at once
            transaction = opened.enter_context(self._journal.transaction(wait=wait))
            results = [one.work(transaction) for one in batch]
            transaction.flush()
            return _Decided(results, opened.pop_all().close)

    def _decide_and_commit(self, batch: list[_Waiting]) -> list[Any]:
        decided = self._decide(batch, wait=True)
        decided.commit()
        return decided.results


def _nothing() -> None:
    """Do nothing."""


def _deliver(batch: list[_Waiting], results: list[Any]) -> None:
    for one, result in zip(batch, results, strict=True):
        if not one.future.done():
            one.future.set_result(result)


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for one in batch:
        if not one.future.done():
            one.future.set_exception(error)
