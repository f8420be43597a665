import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcbn_broker.attestation.errors import NotAuthentic
from mcbn_broker.attestation.printable import PRINTABLE_CHARS, printable
from mcbn_broker.attestation.strict_json import NotStrictJsonError, parse_object
from mcbn_broker.attestation.strict_jws import OIDC, parse


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


HEADER = b64(b'{"alg":"RS256","kid":"k1","typ":"JWT"}')
CLAIMS = b64(b'{"aud":"x"}')
SIGNATURE = b64(bytes(256))
TOKEN = f"{HEADER}.{CLAIMS}.{SIGNATURE}"


def check_of(token: str) -> str:
    with pytest.raises(NotAuthentic) as caught:
        parse(token, profiles=(OIDC,))
    return caught.value.check.value


def headed(**members: Any) -> str:
    header = {"alg": "RS256", "kid": "k1", "typ": "JWT"} | members
    kept = {name: value for name, value in header.items() if value is not ...}
    return f"{b64(json.dumps(kept).encode())}.{CLAIMS}.{SIGNATURE}"


def test_a_token_comes_apart() -> None:
    token = parse(TOKEN, profiles=(OIDC,))
    assert token.key_id == "k1"
    assert token.header == {"alg": "RS256", "kid": "k1", "typ": "JWT"}
    assert token.claims == {"aud": "x"}
    assert token.signing_input == f"{HEADER}.{CLAIMS}".encode()
    assert token.signature == bytes(256)
    assert "aud" not in repr(token)


def test_unknown_header_members_and_an_absent_type_are_accepted() -> None:
    assert parse(headed(typ=..., x5t="abc", cty="other"), profiles=(OIDC,)).key_id == "k1"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b",
        f"{HEADER}.{CLAIMS}",
        f"{TOKEN}.",
        f"{TOKEN}.{SIGNATURE}.{SIGNATURE}",
        f"{HEADER}..{SIGNATURE}",
        f"{HEADER}.{CLAIMS}.",
        f".{CLAIMS}.{SIGNATURE}",
        f"{HEADER}=.{CLAIMS}.{SIGNATURE}",
        f"{TOKEN}==",
        f" {TOKEN}",
        f"{TOKEN}\n",
        f"{HEADER}.{CLAIMS[:4]}\n{CLAIMS[4:]}.{SIGNATURE}",
        f"{HEADER}.{CLAIMS}.{SIGNATURE[:-1]}B",  # non-zero trailing bits
        f"{HEADER}.{CLAIMS}.a+/b",
        f"{HEADER}.{CLAIMS}.\ud800aaa",
        f"{HEADER}.{CLAIMS}.\uff41\uff41\uff41\uff41",
        f"{HEADER}.{b64(b'[1]')}.{SIGNATURE}",
        f"{HEADER}.{b64(b'{}x')}.{SIGNATURE}",
        f"{b64(b'null')}.{CLAIMS}.{SIGNATURE}",
    ],
)
def test_any_other_form_is_refused(token: str) -> None:
    assert check_of(token) == "token.form"


def test_a_token_over_16_kib_is_refused_before_it_is_read() -> None:
    assert check_of("." * (16 * 1024 + 1)) == "token.size"
    assert check_of("." * (16 * 1024)) == "token.form"


@pytest.mark.parametrize(
    "algorithm", ["none", "nOnE", "HS256", "RS384", "PS256", "ES256", "rs256", "", None, 256, ["RS256"], ...]
)
def test_only_rs256_is_an_algorithm(algorithm: Any) -> None:
    assert check_of(headed(alg=algorithm)) == "token.algorithm"


@pytest.mark.parametrize("member", ["jku", "x5u", "jwk", "x5c", "crit", "b64"])
@pytest.mark.parametrize("value", ["https://attacker.example/", None, [], {}])
def test_a_token_cannot_bring_its_own_key_or_extension(member: str, value: Any) -> None:
    assert check_of(headed(**{member: value})) == "token.header"


@pytest.mark.parametrize(
    "key_id", ["../../etc/passwd", "'; drop table keys --", "k" * 129, "", "k k", "\uff4b", 7, None, ["k1"], ...]
)
def test_a_key_id_of_another_shape_is_refused(key_id: Any) -> None:
    assert check_of(headed(kid=key_id)) == "token.header"


@pytest.mark.parametrize("value", ["jwt", "JWS", "at+jwt", "", None, 1, ["JWT"]])
def test_another_type_is_refused(value: Any) -> None:
    assert check_of(headed(typ=value)) == "token.header"


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":"x","\\u0061":"y"}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e400}',
        b'{"a":' + b"1" * 33 + b".5}",
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        b"[" * 100_000,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"a":1}{"b":2}',
        b'{"a":1,}',
        b"{'a':1}",
        b"",
        b"null",
        b'"text"',
    ],
)
def test_json_that_parsers_disagree_about_is_refused(text: bytes) -> None:
    with pytest.raises(NotStrictJsonError):
        parse_object(text)


def test_a_finite_fraction_is_kept_as_a_float() -> None:
    assert parse_object(b'{"a":1.5,"b":-9007199254740991}') == {"a": 1.5, "b": -(2**53 - 1)}


def test_an_escaped_pair_of_surrogates_is_one_letter() -> None:
    assert parse_object(b'{"a":"\\ud83d\\ude00"}') == {"a": "\N{GRINNING FACE}"}


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(NotStrictJsonError):
        assert isinstance(parse_object(data), dict)


@given(st.text(max_size=200))
def test_any_text_parses_or_is_refused(text: str) -> None:
    with pytest.raises(NotAuthentic):
        parse(text, profiles=(OIDC,))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=400),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=20), inner, max_size=5),
)


@given(JSON)
def test_whatever_is_shown_is_printable_and_short(value: Any) -> None:
    text = printable(value)
    assert len(text) <= PRINTABLE_CHARS
    assert all(" " <= character <= "~" for character in text)


def test_what_json_cannot_say_is_shown_by_its_type() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert printable(deep) == "<list>"
    assert printable(object()) == "<object>"
    assert printable("\x7f\x1b[2J") == '"\\u007f\\u001b[2J"'
