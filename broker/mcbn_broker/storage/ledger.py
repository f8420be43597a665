"""Group commit: one thread runs waiting transactions together, so that many requests share one durable commit."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from mcbn_broker.errors import BrokerError, StorageError
from mcbn_broker.release.stores import Transaction
from mcbn_broker.storage.store import Store

T = TypeVar("T")

BATCH_MAX: Final = 64
LINGER_SECONDS: Final = 0.01  # the longest that a transaction waits for others that are already on their way


@dataclass(frozen=True)
class _Waiting:
    work: Callable[[Transaction], Any]
    future: "asyncio.Future[Any]"


class GroupLedger:
    """Runs transactions on a thread of its own. `commits` and `recorded` count what became durable."""

    def __init__(self, store: Store) -> None:
        self.commits = 0
        self.recorded = 0
        self._journal = store.journal
        self._changed = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._arriving = 0
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="mcbn-ledger", daemon=True)
        self._thread.start()

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Announce that a request is on its way to `run`, worth waiting for a moment."""
        with self._changed:
            self._arriving += 1
        try:
            yield
        finally:
            with self._changed:
                self._arriving -= 1
                self._wake()

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction and return its result once that is durable.

        Raises:
            BrokerError: Nothing was written; a later try may succeed.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        with self._changed:
            if self._closing:
                raise StorageError("the broker is stopping: nothing was written")
            self._waiting.append(_Waiting(work, future))
            self._wake()
        return await future

    async def aclose(self) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        await asyncio.to_thread(self._thread.join)

    def _wake(self) -> None:
        """Wake the thread for its first item, and when lingering any longer would be pointless."""
        if len(self._waiting) == 1 or self._complete():
            self._changed.notify_all()

    def _complete(self) -> bool:
        return self._closing or len(self._waiting) >= min(BATCH_MAX, self._arriving)

    def _serve(self) -> None:
        while batch := self._take():
            self._run(batch)

    def _take(self) -> list[_Waiting]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._changed.wait_for(self._complete, timeout=LINGER_SECONDS)
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            return batch

    def _run(self, batch: list[_Waiting]) -> None:
        try:
            results = self._commit(batch)
        except BrokerError as error:
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001  # a fault in one item must not take down the others, nor this thread
            if len(batch) == 1:
                _fail(batch, error)
            else:
                for one in batch:
                    self._run([one])
        else:
            _deliver(batch, results)

    def _commit(self, batch: list[_Waiting]) -> list[Any]:
        with self._journal.transaction() as transaction:
            results = [one.work(transaction) for one in batch]
        self.commits += 1
        self.recorded += len(batch)
        return results


def _deliver(batch: list[_Waiting], results: list[Any]) -> None:
    def resolve() -> None:
        for one, result in zip(batch, results, strict=True):
            if not one.future.done():
                one.future.set_result(result)

    batch[0].future.get_loop().call_soon_threadsafe(resolve)


def _fail(batch: list[_Waiting], error: Exception) -> None:
    def reject() -> None:
        for one in batch:
            if not one.future.done():
                one.future.set_exception(error)

    batch[0].future.get_loop().call_soon_threadsafe(reject)
