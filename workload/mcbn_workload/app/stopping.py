"""SIGTERM and SIGINT: the first asks a running service to end in peace, a second one, or one at the start, ends it."""

import asyncio
import signal
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Turns signals into the end of the current task. Use it as a context manager inside the event loop."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._task = asyncio.current_task()
        self._serving = False

    def __enter__(self) -> "Stopping":
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal)
        return self

    def __exit__(self, *_error: object) -> None:
        for number in _SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)

    @property
    def asked(self) -> bool:
        """Whether the end was asked for."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Serve until the end is asked for."""
        self._serving = True
        await self._asked.wait()

    def ask(self) -> None:
        """Ask the running service to end in peace, as a first signal does."""
        self._asked.set()

    def _on_signal(self) -> None:
        if self._task is not None and (self.asked or not self._serving):
            self._task.cancel()
        self.ask()
