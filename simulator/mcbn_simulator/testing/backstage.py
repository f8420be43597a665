"""An event loop on a thread of its own, so that the tests themselves may be synchronous or asynchronous."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Generator
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Backstage:
    """The loop; see `backstage`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine's result. In an asynchronous test, do so by `asyncio.to_thread`."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @contextlib.contextmanager
    def inside(self, manager: contextlib.AbstractAsyncContextManager[T]) -> Generator[T]:
        """Be inside of an asynchronous context while the block runs; one task enters and leaves it."""
        entered: Future[T] = Future()
        leave = asyncio.Event()

        async def stay() -> None:
            try:
                async with manager as value:
                    entered.set_result(value)
                    await leave.wait()
            except BaseException as error:
                if entered.done():
                    raise
                entered.set_exception(error)

        done = asyncio.run_coroutine_threadsafe(stay(), self._loop)
        try:
            yield entered.result()
        finally:
            self._loop.call_soon_threadsafe(leave.set)
            done.result()


@contextlib.contextmanager
def backstage() -> Generator[Backstage]:
    """Run an event loop while the block runs."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever, name="mcbn-backstage", daemon=True)
        thread.start()
        try:
            yield Backstage(loop)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
