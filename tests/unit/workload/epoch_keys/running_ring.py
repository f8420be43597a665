"""A ring that gathers, renews and ends epochs while a test's block runs."""

import asyncio
import contextlib


@contextlib.asynccontextmanager
async def running(ring):
    await ring.start()
    task = asyncio.create_task(ring.run())
    await asyncio.sleep(0)
    try:
        yield ring
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
