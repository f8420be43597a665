"""What an act has seen, in words and in facts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Seen:
    """What came of an act.

    Attributes:
        text: For the summary.
        facts: For programs.
    """

    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)
