"""Strict JSON, canonical JSON, base64url, hex and length prefixes."""

import base64
import itertools
import json

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from mcbn_protocol import limits
from mcbn_protocol.encoding import (
    b64u_decode,
    b64u_encode,
    canonical,
    hex32_decode,
    lp,
    parse_canonical,
    parse_json,
    u32be,
    u64be,
)
from mcbn_protocol.errors import MalformedError, TooLargeError
from mcbn_protocol.identifiers import check_name

LIMIT = 64 * 1024
SAFE = 2**53 - 1
text = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE, SAFE) | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=20,
)


@given(json_values)
def test_canonical_json_reads_back_and_is_canonical_again(value):
    data = canonical(value)
    assert parse_canonical(data, limit=len(data)) == value


@given(json_values)
def test_canonical_json_is_one_text_for_all_spellings(value):
    assert canonical(parse_json(json.dumps(value, indent=2).encode(), limit=1_000_000)) == canonical(value)


member_names = text | st.sampled_from(["", "a", "~", "\x7f", "\u20ac", "\ue000", "\U0001f600", '"', "\\", "\n", "\x1f"])


@given(st.recursive(json_values, lambda inner: st.lists(inner) | st.dictionaries(member_names, inner), max_leaves=8))
@example({"\U0001f600": 1, "\ue000": 2, "a": [{"\r": "\x7f\x80\u2028", "b": "\x00\b\f\t/<"}]})
def test_canonical_json_is_what_the_reference_implementation_writes(value):
    assert canonical(value) == rfc8785.dumps(value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_json_or_malformed(data):
    try:
        value = parse_json(data, limit=LIMIT)
    except MalformedError:
        return
    assert parse_json(canonical(value), limit=LIMIT * 4) == value


@given(st.lists(st.binary(max_size=20), max_size=4), st.lists(st.binary(max_size=20), max_size=4))
def test_length_prefixes_keep_boundaries(left, right):
    joined = (b"".join(map(lp, left)), b"".join(map(lp, right)))
    assert (joined[0] == joined[1]) == (left == right)


@given(st.binary(max_size=100))
def test_base64url_reads_back(raw):
    assert b64u_decode(b64u_encode(raw), length=len(raw)) == raw


@given(st.text(max_size=60))
def test_base64url_has_one_spelling(spelling):
    try:
        raw = b64u_decode(spelling)
    except MalformedError:
        return
    assert b64u_encode(raw) == spelling


@pytest.mark.parametrize("spelling", ["AA==", "AA=", "A", "AB", "AA\n", " AA", "+/8", "\u00e9", "AA\x00"])
def test_base64url_refuses_every_other_spelling(spelling):
    with pytest.raises(MalformedError, match="base64url"):
        b64u_decode(spelling)


def accepts(text: str) -> bool:
    try:
        b64u_decode(text)
    except MalformedError:
        return False
    return True


def decodes_and_encodes_again(text: str) -> bool:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return False
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode() == text


def test_every_short_spelling_is_accepted_only_if_encoding_gives_it_again():
    for spelling in ("".join(one) for length in range(6) for one in itertools.product("AEQgwB-_+=\n", repeat=length)):
        assert accepts(spelling) == decodes_and_encodes_again(spelling), spelling


def test_base64url_of_another_length_is_refused():
    with pytest.raises(MalformedError, match="3 bytes where 4"):
        b64u_decode("AAAA", length=4)


def test_hex_reads_32_bytes():
    assert hex32_decode("0f" * 32) == bytes([15]) * 32


@pytest.mark.parametrize(
    "spelling", ["0F" * 32, "0f" * 31, "0f" * 32 + "\n", "0f" * 33, "", "\uff10" * 64, "0x" + "f" * 62]
)
def test_hex_refuses_every_other_spelling(spelling):
    with pytest.raises(MalformedError, match="hex"):
        hex32_decode(spelling)


def test_integers_are_big_endian():
    assert (u32be(0x01020304), u64be(1)) == (b"\x01\x02\x03\x04", bytes(7) + b"\x01")


def test_length_prefixed_text_must_be_ascii():
    with pytest.raises(MalformedError, match="ASCII"):
        lp("caf\u00e9")


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}', b'{"a":1,"\\u0061":2}', b"[1.0]", b"[1e2]", b"[1E400]", b"[NaN]", b"[Infinity]",
        b"[-Infinity]", b"[-0]",
        b"[9007199254740992]", b"[-9007199254740992]", b"[" + b"9" * 5000 + b"]", b"[01]", b"[+1]",
        b'["\\ud800"]', b'{"\\udfff":1}', b'["\\ud800\\u0041"]', b'["\xff"]', b'["\xed\xa0\x80"]', b'["\xc0\xaf"]',
        b"\xef\xbb\xbf[]", b'["\n"]', b"[]]", b"[] []", b"", b" ", b"[1,]", b"{'a':1}", b"[//\n]", "[\u0663]".encode(),
    ],
)  # fmt: skip
def test_what_is_not_strict_json_is_refused(data):
    with pytest.raises(MalformedError):
        parse_json(data, limit=LIMIT)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("closed", [True, False])
def test_json_nested_100_000_deep_is_refused(opening, closed):
    data = opening * 100_000 + ("1" + {"[": "]", '{"a":': "}"}[opening] * 100_000 if closed else "")
    with pytest.raises(MalformedError):
        parse_json(data.encode(), limit=len(data))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_has_a_limit_that_does_not_depend_on_the_interpreter(opening, closing):
    def nested(depth: int) -> bytes:
        return (opening * depth + "1" + closing * depth).encode()

    assert parse_canonical(nested(limits.JSON_DEPTH), limit=LIMIT)
    for depth in (limits.JSON_DEPTH + 1, 100, 1_500, 5_000):
        with pytest.raises(MalformedError, match="nested too deeply"):
            parse_json(nested(depth), limit=100_000)


def test_many_shallow_arrays_are_not_taken_for_deep_ones():
    flat = b"[" + b",".join([b"[]"] * 100) + b"]"
    assert parse_json(flat, limit=LIMIT) == [[]] * 100


def test_nothing_of_a_text_beyond_its_limit_is_parsed():
    assert parse_json(b"[]", limit=2) == []
    with pytest.raises(TooLargeError, match="3 bytes, where at most 2"):
        parse_json(b"[[]", limit=2)


@pytest.mark.parametrize("value", [2**53, "\ud800", {"\ud800": 1}])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(MalformedError):
        canonical(value)


@pytest.mark.parametrize("data", [b"[ ]", b"[]\n", b'{"b":1,"a":1}', b'["\\u0041"]', b'["\\/"]', b'["\\u001F"]'])
def test_bytes_that_are_not_canonical_are_refused(data):
    parse_json(data, limit=LIMIT)
    with pytest.raises(MalformedError, match="not canonical"):
        parse_canonical(data, limit=LIMIT)


def test_text_is_not_normalised():
    """Two spellings of one letter (NFC and NFD) stay two texts, under two hashes."""
    assert canonical("\u00e9") != canonical("e\u0301")


@pytest.mark.parametrize("name", ["a", "alice", "a-1-b", "a" * 32])
def test_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "1a", "-a", "a_b", "a" * 33, "alice\n", "a.b", "\u0430lice", "a:b", "a/b"])
def test_other_names_are_refused(name):
    with pytest.raises(MalformedError, match="a name is"):
        check_name(name)
