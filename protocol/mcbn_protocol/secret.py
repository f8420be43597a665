"""A type for secret bytes that does not show them: redacted `repr`, comparison in constant time, no pickling."""

import hmac
from typing import NoReturn, final


class Secret:
    """Secret bytes. Subclass it once for each kind of secret, so that one kind is never taken for another.

    Python cannot wipe every copy of a value: keep the copies few, and drop the object when its time has passed.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    @final
    def reveal(self) -> bytes:
        """Return the secret bytes. The name is long enough to find every use of it."""
        return self._value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self._value)} bytes>"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a secret as a dictionary key would live on in tables and logs

    def __reduce__(self) -> NoReturn:
        msg = f"{type(self).__name__} must not be serialised"
        raise TypeError(msg)
