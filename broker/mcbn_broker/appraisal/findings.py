"""Compares one claim with what is expected of it, by type and by value, and says both in words."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, TypeAlias

from mcbn_broker.attestation.printable import printable


class _Missing:
    """Stands for a claim that is not there: it equals nothing that is."""

    def __repr__(self) -> str:
        return "missing"


MISSING: Final = _Missing()
_STRINGS: Final = frozenset({str})
_PATHS_KEPT: Final = 256  # the checks name a few dozen, always the same

Words: TypeAlias = str | Callable[[], str]
"""Printable and short. Nearly every claim of nearly every token is as expected, so most are never asked for."""


class Finding(NamedTuple):
    """Whether a claim is as expected, and both sides in words."""

    passed: bool
    expected: Words
    found: Words


class Claims:
    """The claims of an attestation result, read by dotted path."""

    def __init__(self, claims: Mapping[str, Any]) -> None:
        self._claims = dict(claims)

    def at(self, path: str) -> object:
        """Return the value at a path, or `MISSING` if it or an object on the way to it is not there."""
        value: object = self._claims
        for name in _steps(path):
            if not isinstance(value, dict):
                return MISSING
            value = value.get(name, MISSING)
        return value


@lru_cache(maxsize=_PATHS_KEPT)
def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def described(value: object) -> str:
    """Return a claim's value, printable and short, or `missing`."""
    return repr(value) if value is MISSING else printable(value)


def later(value: object) -> Words:
    """Return what `described` will say of a value when it is asked for."""
    return partial(described, value)


def exactly(found: object, expected: str | int | bool) -> Finding:
    """Require the same type and value, so that neither "true" nor 1 is true."""
    return Finding(type(found) is type(expected) and found == expected, later(expected), later(found))


def one_of(found: object, allowed: Collection[str]) -> Finding:
    """Require a string out of a list. An empty list admits nothing."""
    passed = isinstance(found, str) and found in allowed
    return Finding(passed, lambda: f"one of {described(sorted(allowed))}", later(found))


def shaped(found: object, pattern: re.Pattern[str], meaning: str) -> Finding:
    """Require a string that matches a pattern in full."""
    return Finding(isinstance(found, str) and pattern.fullmatch(found) is not None, meaning, later(found))


def empty(found: object) -> Finding:
    """Require a claim to be absent, null or empty."""
    return Finding(found is MISSING or found is None or found in ([], {}), "absent or empty", later(found))


def strings(value: object) -> list[str] | None:
    """Return a list of strings, or None for anything else."""
    return value if isinstance(value, list) and _STRINGS.issuperset(map(type, value)) else None


def string_map(value: object) -> dict[str, str] | None:
    """Return an object whose values are strings, or None for anything else."""
    return value if isinstance(value, dict) and _STRINGS.issuperset(map(type, value.values())) else None


def same_strings(found: object, expected: Sequence[str]) -> Finding:
    """Require a list of strings in the same order."""
    wanted = list(expected)
    return Finding(strings(found) == wanted, later(wanted), later(found))
