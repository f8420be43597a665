"""A participant's present decision whether its share may be released."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

INITIAL_REASON: Final = "not decided yet"


class ConsentState(StrEnum):
    """The two decisions. There is no third: whatever is not allowed is paused."""

    ALLOWED = "allowed"
    PAUSED = "paused"


@dataclass(frozen=True)
class Consent:
    """The decision, why, since when (Unix seconds), and the sequence of its audit record."""

    state: ConsentState
    reason: str
    since: int
    sequence: int
