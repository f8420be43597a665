"""Strict JSON for documents of others: what no parser should guess about is refused, what is only unknown is kept.

It differs from `mcbn_protocol.encoding.parse_json` in one point: a finite fraction is kept as a float. In our own
messages it is refused, but if a service one day adds a claim with a fraction, refusing its tokens would stop every
participant at once, while keeping it admits nothing: each check compares type and value, and none asks for a float.
"""

import json
import math
from typing import Any, Final, NoReturn

from mcbn_broker.attestation.printable import printable
from mcbn_protocol.encoding import nests_too_deeply

_SAFE_INTEGER: Final = 2**53 - 1  # I-JSON (RFC 7493 section 2.2): what every parser keeps
_NUMBER_CHARS: Final = 32


class NotStrictJsonError(ValueError):
    """Bytes that are not one strict JSON object. The text says why and holds none of them."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrictJsonError("an object has the same member twice")
    return members


def _integer(digits: str) -> int:
    if len(digits) > _NUMBER_CHARS or abs(int(digits)) > _SAFE_INTEGER:
        raise NotStrictJsonError("an integer is outside of plus or minus 2^53 - 1")
    return int(digits)


def _fraction(digits: str) -> float:
    value = float(digits) if len(digits) <= _NUMBER_CHARS else math.inf
    if not math.isfinite(value):
        raise NotStrictJsonError("a number is too long or too large")
    return value


def _constant(name: str) -> NoReturn:
    raise NotStrictJsonError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse one JSON object, whose size the caller has bounded.

    Raises:
        NotStrictJsonError: Not UTF-8, not JSON, not an object; a member twice; NaN or infinity; an integer beyond
            plus or minus 2^53 - 1; a lone surrogate; nesting beyond the protocol's `limits.JSON_DEPTH`.
    """
    try:
        text = data.decode("utf-8")
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        if nests_too_deeply(text, value):
            raise NotStrictJsonError("nested too deeply")
    except UnicodeError as error:
        raise NotStrictJsonError("not UTF-8, or a lone surrogate") from error
    except RecursionError as error:
        raise NotStrictJsonError("nested too deeply") from error
    except json.JSONDecodeError as error:
        raise NotStrictJsonError(f"not JSON: {error.msg} at character {error.pos}") from error
    if not isinstance(value, dict):
        raise NotStrictJsonError(f"an object is expected, not {printable(value)}")
    return value
