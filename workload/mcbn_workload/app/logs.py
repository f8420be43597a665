"""The log on standard error: for programs one JSON object a line, for a person at a terminal words."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

LOGGER: Final = "mcbn.workload"
_STANDARD: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_DIM, _YELLOW, _RED = "2", "33", "31"


class LogFormat(StrEnum):
    """What the log is written in."""

    TEXT = "text"
    JSON = "json"


class JsonLines(logging.Formatter):
    """Formats a record as time, level, event, message, and whatever its `extra` holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line of JSON."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": "log",
            "message": _message(record),
        }
        fields |= _extra(record)
        if record.exc_info:
            fields["traceback"] = "\n".join(_frames(record.exc_info[1]))
        return json.dumps(fields, default=str)


class Words(logging.Formatter):
    """Formats a record as time, message, and `name=value` for whatever its `extra` holds.

    What others sent may be among it. So whatever a terminal would obey or hide, or a reader take for another fact, is
    quoted and escaped.

    Args:
        colour: Whether to dim what is beside the message and to colour warnings and errors.
    """

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and after it those of a traceback."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds")
        message, extra = _message(record), _extra(record)
        said = message if _is_plain(message) else json.dumps(message)
        facts = " ".join(f"{name}={_shown(value)}" for name, value in extra.items())
        if record.levelno > logging.INFO:
            colour = _RED if record.levelno >= logging.ERROR else _YELLOW
            said = f"{self._in(colour, record.levelname)} {said}"
        line = " ".join([self._in(_DIM, time), said, *([self._in(_DIM, facts)] if facts else [])])
        return "\n  | ".join([line, *(_frames(record.exc_info[1]) if record.exc_info else ())])

    def _in(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour else text


def _message(record: logging.LogRecord) -> str:
    """Return the message; beside an exception only its first line, for asyncio quotes the exception in the next."""
    message = record.getMessage()
    return message.partition("\n")[0] if record.exc_info else message


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


def _shown(value: object) -> str:
    """Return a value as one word: a text as it is where nobody can take it for something else."""
    if not isinstance(value, str):
        return json.dumps(value, default=str)
    return value if value and " " not in value and _is_plain(value) else json.dumps(value)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and not any(character in text for character in '"=')


def _frames(error: BaseException | None) -> list[str]:
    """Return where an exception came from and its kind. Not its text, which may quote what came through a channel."""
    lines: list[str] = []
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        frames = traceback.extract_tb(one.__traceback__)
        lines += [f"{frame.filename}:{frame.lineno}, {frame.name}" for frame in frames]
        lines.append(type(one).__qualname__)
        waiting += [one.__context__, one.__cause__]
        if isinstance(one, BaseExceptionGroup):
            waiting += reversed(one.exceptions)
    return lines


def start_log(level: str, chosen: LogFormat | None = None) -> None:
    """Write this package's log from `level` on, and everybody else's from WARNING on.

    Args:
        level: The name of a level of `logging`.
        chosen: The format; by default words where standard error is a terminal, in colour, and JSON elsewhere.
    """
    handler = logging.StreamHandler(sys.stderr)
    terminal = sys.stderr.isatty()
    words = chosen is LogFormat.TEXT or (chosen is None and terminal)
    handler.setFormatter(Words(colour=terminal and chosen is None) if words else JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(LOGGER).setLevel(level)
