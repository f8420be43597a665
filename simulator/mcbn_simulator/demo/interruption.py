"""What Ctrl-C does: the work is cancelled and cleans up after itself, however impatient somebody is."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from typing import Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SIGNAL_STATUS: Final = 128  # plus the signal's number, as shells say it


async def interruptible(play: Callable[[], Awaitable[int]]) -> int:
    """Turn the first signal into a cancellation, and let no further one disturb the cleaning up.

    Args:
        play: The work; it returns an exit status.

    Returns:
        That status, or 128 and the number of the signal.
    """
    received: list[int] = []
    task = asyncio.ensure_future(play())

    def interrupt(number: int) -> None:
        if not received:
            received.append(number)
            task.cancel()

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, interrupt, number)
    await asyncio.wait([task])
    if received:
        with contextlib.suppress(asyncio.CancelledError):
            task.exception()
        return _SIGNAL_STATUS + received[0]
    return task.result()
