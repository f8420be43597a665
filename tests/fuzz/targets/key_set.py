"""An issuer's discovery document and key set, from whoever answers in its place."""

from contextlib import suppress

import httpx

from mcbn_broker.attestation.fetching import DocumentError, new_client
from mcbn_broker.attestation.published_keys import KEYS_MAX, RSA_BITS, fetch_published_keys
from mcbn_simulator.issuer import Issuer
from mcbn_simulator.signing_keys import SigningKey
from tests.fuzz.keys import rsa_key
from tests.fuzz.material import compact, json_object, run
from tests.fuzz.tokens import ISSUER

JSON = True
WORDS = tuple(
    b"discovery keys cache status jwks_uri issuer kty RSA EC use sig enc alg RS256 kid n e AQAB max-age=60 http:// "
    b"https://issuer.example/k https://[::1]/ https://user@x/ \xe2\x84\xa2.example https://xn--a/ :99999".split()
)


def seeds() -> list[bytes]:
    discovery = Issuer(ISSUER).discovery()
    keys = [SigningKey(f"k{number}", rsa_key(number)).jwk() for number in (1, 2)]
    told = {"discovery": discovery, "set": {"keys": keys}, "cache": "public, max-age=600", "status": 200}
    return [compact(told), compact(told | {"set": {"keys": keys[:1] * 2}}), compact(told | {"set": {"keys": []}})]


def target(data: bytes) -> None:
    told = json_object(data) or {}
    discovery, keys = (compact(told[name]) if name in told else data for name in ("discovery", "set"))
    cache, status = str(told.get("cache", "")).encode("latin-1", "replace"), told.get("status")
    seen: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url)
        first = len(seen) == 1
        code = status if type(status) is int and not first and 200 <= status < 600 else 200
        headers = [(b"cache-control", cache.replace(b"\n", b"").replace(b"\r", b""))]
        return httpx.Response(code, headers=headers, content=discovery if first else keys)

    with suppress(DocumentError):
        published = run(fetch_published_keys(new_client(httpx.MockTransport(answer)), ISSUER, deadline_seconds=5))
        assert 1 <= len(published.keys) <= KEYS_MAX
        assert all(key.key_size in RSA_BITS for key in published.keys.values())
    assert all(url.scheme == "https" and url.host for url in seen)
