import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key

from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.confidential_space import ConfidentialSpaceVerifier
from mcbn_broker.attestation.errors import NotAuthentic, TokenCheck
from mcbn_broker.attestation.fetching import new_client
from mcbn_broker.attestation.key_sets import KeySetLimits, KeySets
from mcbn_broker.attestation.result import AttestationResult

NOW = 1_800_000_000
ISSUER = "https://attestation.example"
AUDIENCE = "mcbn:v1:" + "ab" * 32 + ":alice"
NONCES = ("C" * 55, "B" * 43)
KEY_ID = "d6d5071ab75246a42acfa46d29316311cdab51f7"


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Minter:
    """Writes tokens, right ones and any others."""

    def __init__(self, key: RSAPrivateKey) -> None:
        self.key = key

    def header(self, **changes: Any) -> dict[str, Any]:
        return self._changed({"alg": "RS256", "kid": KEY_ID, "typ": "JWT"}, changes)

    def claims(self, **changes: Any) -> dict[str, Any]:
        claims = {
            "aud": AUDIENCE,
            "iss": ISSUER,
            "eat_nonce": list(NONCES),
            "iat": NOW - 5,
            "nbf": NOW - 5,
            "exp": NOW + 3595,
            "submods": {"gce": {"instance_id": "42"}},
        }
        return self._changed(claims, changes)

    @staticmethod
    def _changed(members: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in (members | changes).items() if value is not ...}

    def sign(self, header: bytes, payload: bytes) -> str:
        signing_input = f"{b64(header)}.{b64(payload)}"
        return f"{signing_input}.{b64(self.key.sign(signing_input.encode(), PKCS1v15(), hashes.SHA256()))}"

    def raw(self, *, header: bytes | None = None, payload: bytes | None = None) -> str:
        """A genuinely signed token over any bytes."""
        return self.sign(
            header if header is not None else json.dumps(self.header()).encode(),
            payload if payload is not None else json.dumps(self.claims()).encode(),
        )

    def token(self, **changes: Any) -> str:
        """A signed token with changed claims; `...` leaves one out."""
        return self.raw(payload=json.dumps(self.claims(**changes)).encode())

    def headed(self, **changes: Any) -> str:
        return self.raw(header=json.dumps(self.header(**changes)).encode())


class CountingKeys:
    """Gives one key and counts how often it is asked."""

    def __init__(self, key: RSAPublicKey) -> None:
        self.by_id = {KEY_ID: key}
        self.asked: list[tuple[str, str]] = []

    async def key(self, issuer: str, key_id: str) -> RSAPublicKey:
        self.asked.append((issuer, key_id))
        if key_id not in self.by_id:
            raise NotAuthentic(TokenCheck.KEY, "no such key")
        return self.by_id[key_id]


class AttestationService:
    """Serves discovery and key set from memory, with whatever faults a test sets."""

    def __init__(self, keys: list[Any]) -> None:
        self.discovery: dict[str, Any] = {"issuer": ISSUER, "jwks_uri": "https://keys.example/jwks"}
        self.jwks: Any = {"keys": keys}
        self.headers: dict[str, str] = {}
        self.answer: Callable[[httpx.Request], httpx.Response] | None = None
        self.error: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.arrived = asyncio.Event()
        self.requests: list[httpx.Request] = []

    @property
    def fetches(self) -> int:
        return sum("openid-configuration" in str(request.url) for request in self.requests)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.arrived.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        if self.answer is not None:
            return self.answer(request)
        document = self.discovery if "openid-configuration" in str(request.url) else self.jwks
        return httpx.Response(200, json=document, headers=self.headers)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="session")
def private_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@pytest.fixture(scope="session")
def other_private_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@pytest.fixture
def mint(private_key: RSAPrivateKey) -> Minter:
    return Minter(private_key)


@pytest.fixture
def keys(private_key: RSAPrivateKey) -> CountingKeys:
    return CountingKeys(private_key.public_key())


@pytest.fixture
def verifier(keys: CountingKeys) -> ConfidentialSpaceVerifier:
    return ConfidentialSpaceVerifier(keys, maximum_age_seconds=300, leeway_seconds=60)


@pytest.fixture
def verify(verifier: ConfidentialSpaceVerifier) -> Callable[..., Any]:
    async def run(token: str, **changes: Any) -> AttestationResult:
        arguments: dict[str, Any] = {
            "anchors": TrustAnchors(frozenset({ISSUER}), {}),
            "audience": AUDIENCE,
            "nonces": NONCES,
            "now": NOW,
        } | changes
        return await verifier.verify(token, **arguments)

    return run


@pytest.fixture
def refused(verify: Callable[..., Any]) -> Callable[..., Any]:
    """Verify a token that must be refused; gives the failing check's name."""

    async def run(token: str, **changes: Any) -> str:
        with pytest.raises(NotAuthentic) as caught:
            await verify(token, **changes)
        assert token not in str(caught.value)
        assert len(str(caught.value)) < 1200
        return caught.value.check.value

    return run


@pytest.fixture
def jwk() -> Callable[..., dict[str, Any]]:
    """A key as a JWK, with members changed; `...` leaves one out."""

    def build(key: RSAPrivateKey, **changes: Any) -> dict[str, Any]:
        numbers = key.public_key().public_numbers()
        members = {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": KEY_ID,
            "n": b64(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")),
            "e": b64(numbers.e.to_bytes(3, "big")),
        } | changes
        return {name: value for name, value in members.items() if value is not ...}

    return build


@pytest.fixture
def service(private_key: RSAPrivateKey, jwk: Callable[..., dict[str, Any]]) -> AttestationService:
    return AttestationService([jwk(private_key)])


@pytest.fixture
def client(service: AttestationService) -> httpx.AsyncClient:
    return new_client(httpx.MockTransport(service))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def key_sets(client: httpx.AsyncClient, clock: Clock) -> KeySets:
    return KeySets(client, limits=KeySetLimits(), clock=clock, sleep=asyncio.sleep, jitter=lambda: 0.5)
