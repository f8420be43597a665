"""SIGTERM as an exception: what a command has begun is cleared away."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_KILLED = 128  # what shells add to a signal's number


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as an exception does, with the status that shells give it."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_KILLED + number)
