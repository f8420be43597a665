"""Reads one JSON object strictly: every member by name and type, nothing missing, nothing left over."""

import re
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeVar

from mcbn_protocol import limits
from mcbn_protocol.encoding import JsonObject, JsonValue, b64u_decode, hex32_decode
from mcbn_protocol.errors import MalformedError

T = TypeVar("T")
Choice = TypeVar("Choice", bound=StrEnum)

_SHOWN_NAMES = 3
_SHOWN_CHARS = 40


class Fields:
    """The members of one JSON object. Use it as a context manager: leaving it refuses members that nobody read.

    Every error is a `MalformedError` whose text begins with the member's path, such as `manifest.roles.client`. Of the
    input itself it shows at most the escaped beginnings of unknown names, so that it is safe to log.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise MalformedError(f"{where}: a JSON object is expected")
        self._left: JsonObject = dict(value)
        self._where = where

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if kind is None and self._left:
            names = ", ".join(ascii(name[:_SHOWN_CHARS]) for name in sorted(self._left)[:_SHOWN_NAMES])
            raise MalformedError(f"{self._where}: unknown member {names}")

    def path(self, name: str) -> str:
        """Return the full path of a member, for error texts."""
        return f"{self._where}.{name}"

    def fail(self, name: str, problem: str) -> MalformedError:
        """Return the error for a member, to be raised by the caller."""
        return MalformedError(f"{self.path(name)}: {problem}")

    def has(self, name: str) -> bool:
        """Whether an optional member is there and still unread."""
        return name in self._left

    def take(self, name: str) -> JsonValue:
        """Return a required member of any type."""
        if name not in self._left:
            raise self.fail(name, "required member is missing")
        return self._left.pop(name)

    def take_if(self, name: str, expected: str | None) -> bool:
        """Take a member if its value is `expected`, and return whether it was; else leave it to be read."""
        if name not in self._left or self._left[name] != expected:
            return False
        del self._left[name]
        return True

    def nullable(self, name: str, read: Callable[[str], T]) -> T | None:
        """Return `read(name)` of a required member, or None if it is null."""
        return None if self.take_if(name, None) else read(name)

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        """Return `read(name)` of a member that may be left out, or None."""
        return read(name) if self.has(name) else None

    def text(self, name: str, *, pattern: re.Pattern[str] | None = None, maximum: int = limits.TEXT_CHARS) -> str:
        """Return a required string of 1 to `maximum` characters that matches `pattern` in full."""
        return self._text(name, self.take(name), pattern, maximum)

    def _text(self, name: str, value: JsonValue, pattern: re.Pattern[str] | None, maximum: int) -> str:
        if not isinstance(value, str) or not 1 <= len(value) <= maximum:
            raise self.fail(name, f"a string of 1 to {maximum} characters is expected")
        if pattern is not None and not pattern.fullmatch(value):
            raise self.fail(name, f"does not match {pattern.pattern}")
        return value

    def exactly(self, name: str, expected: str) -> None:
        """Require a string member to be `expected`."""
        if self.take(name) != expected:
            raise self.fail(name, f"must be {expected}")

    def choice(self, name: str, kind: type[Choice]) -> Choice:
        """Return a required string member that is a value of `kind`."""
        return self._choice(name, self.take(name), kind)

    def choices(self, name: str, kind: type[Choice]) -> tuple[Choice, ...]:
        """Return a required array of at least one value of `kind`, in the order given, each at most once."""
        items = [self._choice(name, item, kind) for item in self.array(name, minimum=1)]
        if len(set(items)) != len(items):
            raise self.fail(name, "a value is given twice")
        return tuple(items)

    def _choice(self, name: str, value: JsonValue, kind: type[Choice]) -> Choice:
        try:
            return kind(value if isinstance(value, str) else "")
        except ValueError:
            raise self.fail(name, f"must be one of {', '.join(kind)}") from None

    def integer(self, name: str, *, minimum: int, maximum: int) -> int:
        """Return a required integer (never a bool) from `minimum` to `maximum`."""
        value = self.take(name)
        if type(value) is not int or not minimum <= value <= maximum:
            raise self.fail(name, f"an integer from {minimum} to {maximum} is expected")
        return value

    def boolean(self, name: str) -> bool:
        """Return a required true or false."""
        value = self.take(name)
        if not isinstance(value, bool):
            raise self.fail(name, "true or false is expected")
        return value

    def flag(self, name: str) -> bool:
        """Return whether an optional member is there; it can only be true: false is written by leaving it out."""
        if not self.has(name):
            return False
        if self.take(name) is not True:
            raise self.fail(name, "must be true, or be left out")
        return True

    def hash(self, name: str) -> bytes:
        """Return the 32 bytes of a required member of 64 lower-case hex digits."""
        return self.decoded(name, hex32_decode)

    def base64url(self, name: str, *, length: int) -> bytes:
        """Return the bytes of a required base64url member that decodes to exactly `length` bytes."""
        return self.decoded(name, lambda text: b64u_decode(text, length=length))

    def decoded(self, name: str, decode: Callable[[str], T]) -> T:
        """Return `decode` of a required string member; its MalformedError gets the member's path."""
        value = self.text(name, maximum=limits.PEM_CHARS)
        try:
            return decode(value)
        except MalformedError as error:
            raise self.fail(name, str(error)) from error

    def object(self, name: str) -> JsonObject:
        """Return a required JSON object."""
        value = self.take(name)
        if not isinstance(value, dict):
            raise self.fail(name, "a JSON object is expected")
        return value

    def array(self, name: str, *, minimum: int, maximum: int = limits.LIST_ITEMS) -> list[JsonValue]:
        """Return a required array of `minimum` to `maximum` items."""
        value = self.take(name)
        if not isinstance(value, list) or not minimum <= len(value) <= maximum:
            raise self.fail(name, f"an array of {minimum} to {maximum} items is expected")
        return value

    def texts(self, name: str, *, minimum: int, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        """Return a required array of strings as a tuple, in the order given (repeats allowed: arguments repeat)."""
        items = self.array(name, minimum=minimum)
        return tuple(self._text(name, item, pattern, limits.TEXT_CHARS) for item in items)

    def text_set(self, name: str, *, minimum: int, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        """Return a required array of strings that must be strictly ascending: sorted, with no repeats."""
        items = self.texts(name, minimum=minimum, pattern=pattern)
        if list(items) != sorted(set(items)):
            raise self.fail(name, "the strings must be sorted and differ from one another")
        return items
