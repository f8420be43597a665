"""Names, roles and hashes: the identifiers that appear in every document."""

import hashlib
import re
from enum import StrEnum
from typing import Final, NewType

from mcbn_protocol.errors import MalformedError

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

RosterHash = NewType("RosterHash", bytes)
"""SHA-256 of a roster's canonical bytes."""

ManifestHash = NewType("ManifestHash", bytes)
"""SHA-256 of a manifest payload's canonical bytes."""


class Role(StrEnum):
    """The part that a workload plays in a channel. It is fixed in the image."""

    CLIENT = "client"
    SERVER = "server"


def check_name(text: str) -> str:
    """Return `text` if it is a network or participant name.

    Raises:
        MalformedError: Not 1 to 32 characters of `[a-z][a-z0-9-]*`.
    """
    if not NAME.fullmatch(text):
        raise MalformedError("a name is a lower-case letter followed by at most 31 of a-z, 0-9 and -")
    return text


def sha256(data: bytes) -> bytes:
    """Return the 32 bytes of SHA-256 (FIPS 180-4)."""
    return hashlib.sha256(data).digest()
