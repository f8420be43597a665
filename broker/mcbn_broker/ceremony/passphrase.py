"""The passphrase that protects a consent key."""

import unicodedata
from typing import Final, Self

from mcbn_broker.errors import CeremonyError
from mcbn_protocol.secret import Secret

CHARACTERS_MIN: Final = 12
CHARACTERS_MAX: Final = 1024


class Passphrase(Secret):
    """A passphrase's UTF-8 bytes in Unicode normalization form C, so that every keyboard gives the same ones."""

    __slots__ = ()

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Take what a person typed, or what a file holds.

        Raises:
            CeremonyError: Shorter than 12 characters, longer than 1,024, or more than one line.
        """
        if not CHARACTERS_MIN <= len(text) <= CHARACTERS_MAX:
            raise CeremonyError(
                f"a passphrase has {CHARACTERS_MIN} to {CHARACTERS_MAX} characters: several random words are good"
            )
        if len(text.splitlines()) != 1:
            raise CeremonyError("a passphrase is one line")
        return cls(unicodedata.normalize("NFC", text).encode())
