"""Several things at once: if one fails, the others are cancelled before its error goes on, so none runs unseen."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from mcbn_simulator.errors import SimulatorError

T = TypeVar("T")


async def together(*parts: Coroutine[Any, Any, T]) -> list[T]:
    """Wait for all of them; returns their results in order.

    Raises:
        SimulatorError: The first that one of them raised.
    """
    failure: SimulatorError
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
    except* SimulatorError as errors:
        failure = _first(errors)
    else:
        return [task.result() for task in tasks]
    raise failure


def _first(errors: BaseExceptionGroup[SimulatorError]) -> SimulatorError:
    inner = errors.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
