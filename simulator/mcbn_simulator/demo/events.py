"""What a process says on its standard error: lines, most of them JSON objects that name an event."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Event:
    """One line.

    Attributes:
        at: When it was read, on the clock of `time.monotonic`.
        text: The line, as it was written.
        members: The JSON object that it holds, or nothing for other text.
    """

    at: float
    text: str
    members: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, line: bytes, *, at: float) -> Self:
        """Read a line, with or without its end."""
        text = line.decode("utf-8", errors="replace").rstrip("\r\n")
        try:
            value = json.loads(text)
        except ValueError:
            return cls(at, text)
        return cls(at, text, value if isinstance(value, dict) else {})

    @property
    def name(self) -> str:
        """The event's name, empty for other text."""
        return str(self.members.get("event", ""))

    @property
    def message(self) -> str:
        """What it says to people."""
        return str(self.members.get("message", self.text))
