"""The encodings: strict JSON, canonical JSON (RFC 8785), length prefixes, base64url and lower-case hex."""

import binascii
import json
import re
from collections.abc import Iterable
from typing import Any, Final, NoReturn, TypeAlias

import rfc8785

from mcbn_protocol import limits
from mcbn_protocol.errors import MalformedError, TooLargeError

JsonValue: TypeAlias = "str | int | bool | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"

_SAFE_INTEGER: Final = 2**53 - 1
_SAFE_INTEGER_DIGITS: Final = 17  # with a sign
_HEX32: Final = re.compile(r"[0-9a-f]{64}")
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_+/=", b"+/!!!")  # what base64url does not have becomes what nobody decodes
_NO_TRAILING_BITS: Final = {2: "AQgw", 3: "AEIMQUYcgkosw048"}  # RFC 4648 section 3.5, by the last group's characters


def u32be(value: int) -> bytes:
    """Return `value` as 4 big-endian bytes."""
    return value.to_bytes(4, "big")


def u64be(value: int) -> bytes:
    """Return `value` as 8 big-endian bytes."""
    return value.to_bytes(8, "big")


def lp(value: bytes | str) -> bytes:
    """Length-prefix: u32be(length) || value, where text is its ASCII bytes.

    Raises:
        MalformedError: Text with a character outside of ASCII.
    """
    try:
        raw = value.encode("ascii") if isinstance(value, str) else value
    except UnicodeEncodeError as error:
        raise MalformedError("text that is hashed must be ASCII") from error
    return u32be(len(raw)) + raw


def b64u_encode(value: bytes) -> str:
    """Return base64url without padding (RFC 4648 section 5)."""
    return binascii.b2a_base64(value, newline=False).rstrip(b"=").translate(_TO_URL).decode("ascii")


def b64u_decode(text: str, *, length: int | None = None) -> bytes:
    """Decode canonical base64url without padding, and check the length in bytes if one is given.

    Raises:
        MalformedError: Padding, white space, another alphabet, non-zero trailing bits, or another length.
    """
    try:
        padded = text.encode("ascii").translate(_FROM_URL) + b"=" * (-len(text) % 4)
        raw = binascii.a2b_base64(padded, strict_mode=True)
    except (ValueError, UnicodeEncodeError) as error:
        raise MalformedError("not base64url without padding") from error
    last_group = len(text) % 4
    if last_group and text[-1] not in _NO_TRAILING_BITS.get(last_group, ""):
        raise MalformedError("not canonical base64url without padding")
    if length is not None and len(raw) != length:
        raise MalformedError(f"decodes to {len(raw)} bytes where {length} are expected")
    return raw


def hex32_decode(text: str) -> bytes:
    """Decode 64 lower-case hex digits to 32 bytes.

    Raises:
        MalformedError: Anything else, upper-case digits included.
    """
    if not _HEX32.fullmatch(text):
        raise MalformedError("not 64 lower-case hex digits")
    return binascii.unhexlify(text)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedError("a JSON object has the same member twice")
    return result


def _integer(digits: str) -> int:
    if len(digits) > _SAFE_INTEGER_DIGITS or not -_SAFE_INTEGER <= int(digits) <= _SAFE_INTEGER:
        raise MalformedError("an integer is outside of plus or minus 2^53 - 1")
    if digits == "-0":
        raise MalformedError("an integer is written as -0")
    return int(digits)


def _no_float(_text: str) -> NoReturn:
    raise MalformedError("a number is not an integer: fractions, exponents, NaN and Infinity are refused")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_no_float, parse_constant=_no_float
)


def nests_too_deeply(text: str, value: object) -> bool:
    """Whether parsed JSON has more than `limits.JSON_DEPTH` arrays and objects within one another.

    The interpreter's own limit differs between its versions, so that two of them would not accept the same documents.

    Args:
        text: What was parsed; most documents have too few brackets to nest that deeply.
        value: What it was parsed to.
    """
    if text.count("[") + text.count("{") <= limits.JSON_DEPTH:
        return False
    level = [value]
    for _depth in range(limits.JSON_DEPTH):
        level = [inner for outer in level for inner in _inner(outer)]
    return bool(level)


def _inner(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return (one for one in value.values() if isinstance(one, dict | list))
    if isinstance(value, list):
        return (one for one in value if isinstance(one, dict | list))
    return ()


def parse_json(data: bytes, *, limit: int) -> JsonValue:
    """Parse strict JSON: UTF-8, no duplicate members, no floats, no lone surrogates, at most `limit` bytes.

    Raises:
        TooLargeError: More than `limit` bytes.
        MalformedError: Anything else that is not strict JSON, nesting beyond `limits.JSON_DEPTH` included.
    """
    if len(data) > limit:
        raise TooLargeError(f"{len(data)} bytes, where at most {limit} are accepted")
    try:
        text = data.decode("utf-8")
        value: JsonValue = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        if nests_too_deeply(text, value):
            raise MalformedError("the JSON is nested too deeply")
    except UnicodeError as error:
        raise MalformedError("the text is not UTF-8, or holds a lone surrogate") from error
    except RecursionError as error:
        raise MalformedError("the JSON is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise MalformedError(f"not JSON: {error.msg} at character {error.pos}") from error
    return value


_CANONICAL: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False)


def _is_plain(value: JsonValue) -> bool:
    """Whether the standard library writes `value` as RFC 8785 does, which the tests hold against each other.

    It does so for integers within plus or minus 2^53 - 1 and all strings; names of members it sorts by code point
    instead of UTF-16 unit (section 3.2.3), which in ASCII is the same.
    """
    if type(value) is str:
        return True
    if isinstance(value, dict):
        for name, one in value.items():
            if type(name) is not str or not name.isascii() or not _is_plain(one):
                return False
        return True
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if type(value) is int:
        return -_SAFE_INTEGER <= value <= _SAFE_INTEGER
    return value is None or type(value) is bool


def canonical(value: JsonValue) -> bytes:
    """Return the RFC 8785 (JCS) bytes of `value`: the form that is signed and hashed.

    The standard library's encoder, in C, takes a third of the time of `rfc8785`, and a release is encoded four times.

    Raises:
        MalformedError: `value` has no canonical form (a lone surrogate, an integer beyond 2^53 - 1, nested too deeply).
    """
    try:
        return _CANONICAL.encode(value).encode("utf-8") if _is_plain(value) else rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        raise MalformedError("the value has no canonical JSON form") from error


def parse_canonical(data: bytes, *, limit: int) -> JsonValue:
    """Parse strict JSON whose bytes are already canonical (RFC 8785).

    Raises:
        MalformedError: As `parse_json`, and where the bytes differ from their canonical form.
    """
    value = parse_json(data, limit=limit)
    if canonical(value) != data:
        raise MalformedError("the bytes are not canonical JSON (RFC 8785): use the file exactly as it was made")
    return value
