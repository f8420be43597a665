"""What a refused token is refused with, word for word: the text is what a person has to act on."""

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from mcbn_broker.attestation.errors import KeysUnavailable, NotAuthentic
from mcbn_broker.attestation.key_sets import KeySetLimits, KeySets
from mcbn_broker.attestation.printable import printable
from mcbn_broker.attestation.strict_json import parse_object
from mcbn_broker.attestation.strict_jws import OIDC, PKI, parse
from mcbn_broker.attestation.token_checks import check_signature

ISSUER = "https://attestation.example"


def detail(token: str, *profiles: Any) -> str:
    with pytest.raises(NotAuthentic) as caught:
        parse(token, profiles=profiles or (OIDC,))
    return caught.value.detail


@pytest.mark.parametrize(
    ("token", "place"),
    [
        (".e30.AA", "header"), ("e30..AA", "payload"), ("e30.e30.", "signature"),
        ("!.e30.AA", "header"), ("e30.!.AA", "payload"), ("e30.e30.!", "signature"), ("W10.e30.AA", "header"),
    ],
)  # fmt: skip
def test_the_detail_begins_with_the_place(token: str, place: str) -> None:
    assert detail(token).startswith(f"{place}: ")


def test_a_wrong_payload_is_told_as_the_payload(mint: Any) -> None:
    assert detail(mint.raw(payload=b"[]")).startswith("payload: an object is expected")


def test_every_accepted_type_is_named(mint: Any) -> None:
    expected = "it has no x5c, but only PKI tokens are accepted here"
    assert detail(mint.token(), PKI) == expected
    assert detail(mint.token(), PKI, PKI) == expected.replace("PKI", "PKI or PKI")


def signature_detail(key: RSAPrivateKey) -> str:
    unverified: Any = SimpleNamespace(signing_input=b"a.b", signature=bytes(256), key_id="k7")
    with pytest.raises(NotAuthentic) as caught:
        check_signature(unverified, key.public_key())
    return caught.value.detail


def test_a_wrong_signature_names_the_key_id(private_key: RSAPrivateKey) -> None:
    assert signature_detail(private_key) == "it does not verify under key k7"


def test_a_weak_key_is_called_weak() -> None:
    weak = generate_private_key(65537, 1024)  # noqa: S505  # its weakness is the point
    assert "1024" in signature_detail(weak)


@pytest.mark.parametrize("value", ["\x7f", "\x1b[2J", "\x9b", "\u202e", "\N{CYRILLIC SMALL LETTER A}", "\ud800"])
def test_what_is_shown_is_ascii_that_does_nothing(value: str) -> None:
    shown = printable(f"a{value}b")
    assert shown.startswith('"a\\u00' if ord(value[0]) < 256 else '"a\\u')
    assert all(" " <= character <= "~" for character in shown)


def test_the_smallest_and_largest_safe_integers_are_read() -> None:
    most = 2**53 - 1
    assert parse_object(b'{"a":%d,"b":%d}' % (most, -most)) == {"a": most, "b": -most}


async def test_without_any_set_the_first_fetch_is_tried_again_after_half_a_second(
    client: Any, service: Any, clock: Any
) -> None:
    """Only while a set serves does the cooldown hold; the shortest back-off is half of the first."""
    service.error = httpx.ConnectError("refused")
    key_sets = KeySets(client, limits=KeySetLimits(), clock=clock, sleep=_never, jitter=lambda: 0.0)
    for at, fetches in ((0.0, 1), (0.49, 1), (0.51, 2)):
        clock.now += at
        with pytest.raises(KeysUnavailable):
            await key_sets.key(ISSUER, "any")
        assert service.fetches == fetches
        clock.now -= at


async def _never(_seconds: float) -> None:
    raise AssertionError("nothing sleeps here")
