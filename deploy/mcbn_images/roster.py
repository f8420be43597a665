"""What the builder needs of a roster: its exact bytes, and the participants' names."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mcbn_images.errors import UsageError

FORMAT: Final = "mcbn-roster-v1"
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class RosterFile:
    """A roster file.

    Attributes:
        data: Its bytes, which go into the workload images.
        names: The participants, in the roster's order.
    """

    data: bytes
    names: tuple[str, ...]


def read_roster(path: Path) -> RosterFile:
    """Read a roster as `mcbn-broker roster build` wrote it. The workload checks its keys and rules at its start.

    Raises:
        UsageError: It cannot be read, is no roster, or is not in its one form, so that others' digests would differ.
    """
    try:
        data = path.read_bytes()
        members = json.loads(data)
        names = tuple(one["name"] for one in members["participants"])
        form = members["format"]
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is no roster, but something else in JSON: `mcbn-broker roster build` makes one"
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no roster: {error}. Make one with `mcbn-broker roster build`") from error
    if form != FORMAT or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise UsageError(f"{path} is no {FORMAT}, or has a participant without a name")
    # RFC 8785 for what a roster holds: ASCII texts, small integers, arrays and objects.
    if data != json.dumps(members, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode():
        raise UsageError(f"{path} is not in canonical form: take the bytes that `mcbn-broker roster build` wrote")
    return RosterFile(data, names)
