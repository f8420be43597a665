"""Under which key a new channel is opened: the newest, and where the far end does not take that, the one before."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from mcbn_workload.channels.errors import HandshakeError, forget_frames

_log: Final = logging.getLogger("mcbn.workload.channels")

_EngineT = TypeVar("_EngineT")
_ChannelT = TypeVar("_ChannelT")


async def newest_first(
    open_with: Callable[[Callable[[], _EngineT]], Awaitable[_ChannelT]],
    newest: Callable[[], _EngineT],
    older: Callable[[], _EngineT | None],
) -> _ChannelT:
    """Open a channel under the newest key; if its handshake fails, once more under an older one that is still live.

    Two ends come to a new epoch one after the other, and until then hold only the older one in common. Nothing is
    remembered: the next channel begins with the newest key again, so it is used as soon as both ends hold it. A far end
    answers an unknown key with an alert, over datagrams too, so the first attempt costs a round trip, or the
    handshake's deadline where the alert is lost.

    Whoever can break off handshakes can so choose the older key, but none that the participants do not serve any more.

    Args:
        open_with: Opens a channel with what makes its engine.
        newest: Makes the engine of the first attempt.
        older: Makes that of the second; called only then, and returns None where there is none.

    Raises:
        HandshakeError: The far end takes neither key: what the last attempt said.
        WorkloadError: From `open_with` or `newest`.
    """
    try:
        return await open_with(newest)
    except HandshakeError as error:
        engine = older()
        if engine is None:
            raise
        _log.debug("no channel under the newest key (%s): trying the one before", error)
        forget_frames(error)
    return await open_with(_giving(engine))


def none_older() -> None:
    """Say that there is one key only."""


def _giving(engine: _EngineT) -> Callable[[], _EngineT]:
    return lambda: engine
