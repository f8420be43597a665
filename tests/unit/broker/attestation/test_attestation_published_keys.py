import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from mcbn_broker.attestation.errors import AttestationError
from mcbn_broker.attestation.fetching import DOCUMENT_BYTES, DocumentError, fetch, new_client
from mcbn_broker.attestation.published_keys import fetch_published_keys, key_set_url, parse_key_set
from mcbn_protocol.encoding import b64u_encode

ISSUER = "https://attestation.example"
SIMULATED = "http://127.0.0.1:8080/issuer"


async def fetched(client: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await fetch_published_keys(client, ISSUER, deadline_seconds=10)).keys)


async def test_discovery_leads_to_the_keys(client: Any, service: Any, private_key: RSAPrivateKey) -> None:
    service.headers = {"cache-control": "public, max-age=1234, must-revalidate"}
    published = await fetch_published_keys(client, ISSUER, deadline_seconds=10)
    numbers = [key.public_numbers() for key in published.keys.values()]
    assert numbers == [private_key.public_key().public_numbers()]
    assert published.maximum_age_seconds == 1234
    assert [str(request.url) for request in service.requests] == [
        f"{ISSUER}/.well-known/openid-configuration",
        "https://keys.example/jwks",
    ]
    assert service.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("header", ["", "no-store", "max-age=x", "s-maxage=60", "max-age=99999999999"])
async def test_a_cache_control_that_says_nothing_usable(client: Any, service: Any, header: str) -> None:
    service.headers = {"cache-control": header}
    assert (await fetch_published_keys(client, ISSUER, deadline_seconds=10)).maximum_age_seconds is None


FAULTS: dict[str, Callable[[], httpx.Response]] = {
    "html": lambda: httpx.Response(200, html="<!doctype html><title>Sign in</title>"),
    "redirect": lambda: httpx.Response(302, headers={"location": "https://attacker.example/"}),
    "error": lambda: httpx.Response(503, text="unavailable"),
    "not modified": lambda: httpx.Response(304),
    "too long": lambda: httpx.Response(200, content=b" " * DOCUMENT_BYTES + b"{}"),
    "compressed": lambda: httpx.Response(200, content=b"\x1f\x8b", headers={"content-encoding": "gzip"}),
    "duplicate member": lambda: httpx.Response(200, content=b'{"keys":[],"keys":[]}'),
    "list": lambda: httpx.Response(200, json=[]),
    "empty": lambda: httpx.Response(200, content=b""),
    "deep": lambda: httpx.Response(200, content=b'{"keys":' + b"[" * 60_000),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("where", ["openid-configuration", "jwks"])
async def test_a_broken_document_is_refused(client: Any, service: Any, fault: str, where: str) -> None:
    genuine = {"openid-configuration": service.discovery, "jwks": service.jwks}

    def answer(request: httpx.Request) -> httpx.Response:
        name = "openid-configuration" if "openid" in str(request.url) else "jwks"
        return FAULTS[fault]() if name == where else httpx.Response(200, json=genuine[name])

    service.answer = answer
    with pytest.raises(DocumentError):
        await fetched(client)
    assert all("attacker" not in str(request.url) for request in service.requests)


async def test_a_document_is_read_no_further_than_its_limit(service: Any) -> None:
    sent = 0

    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            nonlocal sent
            while True:
                sent += 1024
                yield b" " * 1024

    client = new_client(httpx.MockTransport(lambda _request: httpx.Response(200, stream=Endless())))
    with pytest.raises(DocumentError, match="longer than 65536 bytes"):
        await fetch(client, "https://keys.example/")
    assert sent == DOCUMENT_BYTES + 1024


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.RemoteProtocolError("nonsense"),
        httpx.TooManyRedirects("many"),
        httpx.InvalidURL("odd"),
        httpx.StreamClosed(),
        OSError(28, "no space"),
        UnicodeError("idna"),
        RuntimeError("closed"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_every_error_of_the_http_library_is_a_document_error(client: Any, service: Any, error: Exception) -> None:
    service.error = error
    with pytest.raises(DocumentError) as caught:
        await fetched(client)
    assert isinstance(caught.value, AttestationError)


async def test_both_documents_share_one_deadline(client: Any, service: Any) -> None:
    service.open.clear()
    with pytest.raises(DocumentError, match="no key set within"):
        await fetch_published_keys(client, ISSUER, deadline_seconds=0)


async def test_a_cancelled_fetch_is_cancelled(client: Any, service: Any) -> None:
    service.open.clear()
    task = asyncio.create_task(fetched(client))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_client_takes_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://attacker.example:3128")
    client = new_client()
    assert not client.trust_env
    assert not client.follow_redirects
    assert client._mounts == {}


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        (ISSUER, "https://keys.example/jwks"),
        (SIMULATED, "http://127.0.0.1:8080/jwks"),
        (SIMULATED, "https://k.example/"),
    ],
)
def test_where_a_key_set_may_be(issuer: str, url: str) -> None:
    assert key_set_url({"issuer": issuer, "jwks_uri": url}, issuer) == url


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        (ISSUER, "http://attestation.example/jwks"),
        (ISSUER, "http://attacker.example/jwks"),
        (ISSUER, "file:///etc/passwd"),
        (ISSUER, "/jwks"),
        (ISSUER, "https:///jwks"),
        (ISSUER, "https://user:word@keys.example/"),
        (ISSUER, "https://keys.example:port/"),
        (ISSUER, "https://" + "k" * 3000),
        (ISSUER, "https://k\x00/"),
        (ISSUER, "https://xn--a/"),  # no encoding of any name
        (ISSUER, ""),
        (ISSUER, None),
        (ISSUER, ["https://keys.example/"]),
        (SIMULATED, "http://127.0.0.1:8081/jwks"),
        (SIMULATED, "http://attacker.example:8080/jwks"),
    ],
)
def test_discovery_cannot_send_the_broker_elsewhere(issuer: str, url: Any) -> None:
    with pytest.raises(DocumentError):
        key_set_url({"issuer": issuer, "jwks_uri": url}, issuer)


@pytest.mark.parametrize("named", [None, ISSUER + "/", "https://attacker.example", [ISSUER]])
def test_discovery_must_speak_of_the_issuer_that_was_asked(named: Any) -> None:
    with pytest.raises(DocumentError, match="speaks of issuer"):
        key_set_url({"issuer": named, "jwks_uri": "https://keys.example/"}, ISSUER)


@pytest.mark.parametrize(
    "changes",
    [
        {"kty": "EC"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": ...},
        {"use": "enc"},
        {"use": ...},
        {"alg": "RS512"},
        {"alg": "HS256"},
        {"kid": ...},
        {"kid": 7},
        {"kid": "../../x"},
        {"kid": "k" * 129},
        {"e": "Aw"},  # 3
        {"e": "AQAB=="},
        {"e": 65537},
        {"n": ...},
        {"n": "!!!"},
        {"n": "AQAB"},
    ],
)
def test_a_key_of_another_kind_is_left_out(jwk: Any, private_key: RSAPrivateKey, changes: dict[str, Any]) -> None:
    good, bad = jwk(private_key, kid="good"), jwk(private_key, **changes)
    assert list(parse_key_set({"keys": [bad, good]})) == ["good"]
    with pytest.raises(DocumentError):
        parse_key_set({"keys": [bad]})


@pytest.mark.parametrize("bits", [1024, 1536])
def test_a_short_key_is_left_out(jwk: Any, bits: int) -> None:
    with pytest.raises(DocumentError):
        parse_key_set({"keys": [jwk(generate_private_key(65537, bits))]})


def test_rsa_512_rsa_16384_and_even_moduli_are_left_out(jwk: Any, private_key: RSAPrivateKey) -> None:
    modulus = private_key.public_key().public_numbers().n
    for number in (modulus >> 1536 | 1, modulus << 14336 | 1, modulus - 1):
        raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
        with pytest.raises(DocumentError, match="no usable key"):
            parse_key_set({"keys": [jwk(private_key, n=b64u_encode(raw))]})


def test_alg_may_be_absent(jwk: Any, private_key: RSAPrivateKey) -> None:
    assert len(parse_key_set({"keys": [jwk(private_key, alg=...)]})) == 1


def test_a_key_id_twice_breaks_the_set_even_if_one_key_is_unusable(jwk: Any, private_key: RSAPrivateKey) -> None:
    with pytest.raises(DocumentError, match="one key id twice"):
        parse_key_set({"keys": [jwk(private_key), jwk(private_key, use="enc")]})


@pytest.mark.parametrize("keys", [..., None, {}, [], "keys", [None], ["key"], [{}], [[]]])
def test_a_set_without_keys_is_refused(keys: Any) -> None:
    with pytest.raises(DocumentError):
        parse_key_set({} if keys is ... else {"keys": keys})


def test_a_set_of_too_many_keys_is_refused(jwk: Any, private_key: RSAPrivateKey) -> None:
    keys = [jwk(private_key, kid=f"k{number}") for number in range(33)]
    assert len(parse_key_set({"keys": keys[:32]})) == 32
    with pytest.raises(DocumentError):
        parse_key_set({"keys": keys})
