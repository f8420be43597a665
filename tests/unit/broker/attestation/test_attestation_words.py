"""What a refused token is refused with, word for word: the text is what a person has to act on."""

from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from mcbn_broker.attestation.errors import KeysUnavailable, NotAuthentic
from mcbn_broker.attestation.key_sets import KeySetLimits, KeySets
from mcbn_broker.attestation.strict_jws import OIDC, PKI, parse
from mcbn_broker.attestation.token_checks import check_signature

ISSUER = "https://attestation.example"


def refusal(token: str, *profiles: Any) -> str:
    """The failing check and all of the detail."""
    with pytest.raises(NotAuthentic) as caught:
        parse(token, profiles=profiles or (OIDC,))
    assert str(caught.value) == f"{caught.value.check.value}: {caught.value.detail}"
    return str(caught.value)


@pytest.mark.parametrize(
    ("token", "beginning"),
    [
        ("", "a compact JWS has exactly three segments"), ("a.b", "a compact JWS has exactly three segments"),
        ("a.b.c.d", "a compact JWS has exactly three segments"),
        (".e30.AA", "header: empty"), ("e30..AA", "payload: empty"), ("e30.e30.", "signature: empty"),
        ("!.e30.AA", "header: "), ("e30.!.AA", "payload: "), ("e30.e30.!", "signature: "),
        ("W10.e30.AA", "header: an object is expected"),
    ],
)  # fmt: skip
def test_a_wrong_form_is_told_with_its_place(token: str, beginning: str) -> None:
    assert refusal(token).startswith(f"token.form: {beginning}")


def test_a_wrong_payload_is_told_as_the_payload(mint: Any) -> None:
    assert refusal(mint.raw(payload=b"[]")).startswith("token.form: payload: an object is expected")


def test_every_accepted_type_is_named(mint: Any) -> None:
    expected = "token.header: it has no x5c, but only PKI tokens are accepted here"
    assert refusal(mint.token(), PKI) == expected
    assert refusal(mint.token(), PKI, PKI) == expected.replace("PKI", "PKI or PKI")


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


async def test_without_any_set_the_first_fetch_is_tried_again_after_half_a_second(
    client: Any, service: Any, clock: Any
) -> None:
    """Only while a set serves does the cooldown hold; the shortest back-off is half of the first."""
    service.error = httpx.ConnectError("refused")
    key_sets = KeySets(client, limits=KeySetLimits(), clock=clock, sleep=_never, jitter=lambda: 0.0)
    start = clock.now
    for after, fetches in ((0.0, 1), (0.49, 1), (0.51, 2)):
        clock.now = start + after
        with pytest.raises(KeysUnavailable):
            await key_sets.key(ISSUER, "any")
        assert service.fetches == fetches


async def _never(_seconds: float) -> None:
    raise AssertionError("nothing sleeps here")
