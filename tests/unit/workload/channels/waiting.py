"""Waiting for the state of shipped objects, which carry no events for tests."""

import asyncio
from collections.abc import Callable

SECONDS = 60.0
"""Far longer than anything takes; pytest's own timeout cannot end a test inside of uvloop."""


async def when(holds: Callable[[], object]) -> None:
    """Let the event loop turn until something holds.

    Raises:
        TimeoutError: It never does.
    """
    async with asyncio.timeout(SECONDS):
        while not holds():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.001)
