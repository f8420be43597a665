"""Shows a value of somebody else's making in a log or an audit record: printable ASCII of bounded length."""

import json
from typing import Final

PRINTABLE_CHARS: Final = 256
_CUT: Final = "..."


def printable(value: object) -> str:
    """Return the JSON of `value` in printable ASCII, cut to `PRINTABLE_CHARS`. It never raises.

    Strings are escaped as JSON does it, so that neither control characters nor look-alike letters reach a terminal.
    """
    if isinstance(value, str):
        value = value[: PRINTABLE_CHARS + 1]
    try:
        text = json.dumps(value)  # which escapes all but printable ASCII
    except (TypeError, ValueError, RecursionError):
        return f"<{type(value).__name__}>"
    return text if len(text) <= PRINTABLE_CHARS else text[: PRINTABLE_CHARS - len(_CUT)] + _CUT
