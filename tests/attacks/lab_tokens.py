"""A forger's bench: genuine tokens taken apart, changed and signed again, and key sets with anything wrong in them."""

import asyncio
import dataclasses
import functools
import hashlib
import json
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from mcbn_broker.audit.chain import AuditKind
from mcbn_protocol.encoding import b64u_decode, b64u_encode
from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import RoleTerms
from mcbn_protocol.messages import ReleaseRequest
from mcbn_simulator.certificates import TokenCertificates
from mcbn_simulator.issuer import DISCOVERY_PATH
from mcbn_simulator.signing_keys import SigningKey
from tests.attacks.lab_brokers import ISSUER, NOW, Lab, LabWorkload, issuer, json_answer, reference
from tests.attacks.lab_replay import nothing_but_rejections

Json = dict[str, Any]
Signer = Callable[[bytes], bytes]
"""Gives the signature over the bytes of a token's first two segments."""

SECOND_ISSUER: Final = "https://second.example"
_SHA256_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017 section 9.2, note 1


def roles(**changes: Any) -> dict[Role, RoleTerms]:
    """What everybody agrees on for both roles, with changed reference values."""
    return {role: RoleTerms(2, (dataclasses.replace(reference(role), **changes),)) for role in Role}


@functools.cache
def franks_key() -> SigningKey:
    """A key of the right kind that no attestation service ever published."""
    return SigningKey.generate()


@functools.cache
def certificates(whose: str) -> TokenCertificates:
    """Root and intermediate of the service or of somebody else, valid in the lab's time."""
    return TokenCertificates(float(NOW))


def root_hash(whose: str) -> bytes:
    """What a manifest pins of a root."""
    return hashlib.sha256(certificates(whose).root.certificate.public_bytes(Encoding.DER)).digest()


def rs256(key: RSAPrivateKey) -> Signer:
    return lambda data: key.sign(data, PKCS1v15(), SHA256())


def genuine_signer() -> Signer:
    """The service's own: what Frank gets signed if the service itself would say such things."""
    return rs256(issuer(ISSUER).signing_key.private_key)


def taken_apart(token: str) -> tuple[Json, Json]:
    """Header and claims of a genuine token."""
    header, claims, _ = (b64u_decode(segment) for segment in token.split("."))
    return json.loads(header), json.loads(claims)


def put_together(header: Json | bytes, claims: Json | bytes, sign: Signer) -> str:
    """A compact JWS over members, or over bytes as they are."""
    raw = (one if isinstance(one, bytes) else json.dumps(one).encode() for one in (header, claims))
    signing_input = ".".join(b64u_encode(one) for one in raw)
    return f"{signing_input}.{b64u_encode(sign(signing_input.encode()))}"


def changed(members: Json, changes: Mapping[str, Any]) -> Json:
    """Members with changes; `...` takes one away."""
    return {name: value for name, value in (members | dict(changes)).items() if value is not ...}


def with_token(request: ReleaseRequest, token: str) -> ReleaseRequest:
    return dataclasses.replace(request, unverified_token=token)


def forged(
    genuine: ReleaseRequest,
    *,
    header: Mapping[str, Any] | None = None,
    claims: Mapping[str, Any] | None = None,
    sign: Signer | None = None,
) -> ReleaseRequest:
    """A genuine request with another token in it.

    Args:
        genuine: The request, whose token is taken apart.
        header: Changes of the header; `...` takes a member away.
        claims: Changes of the claims.
        sign: Signs the result; the attestation service itself if not given.
    """
    old_header, old_claims = taken_apart(genuine.unverified_token)
    token = put_together(changed(old_header, header or {}), changed(old_claims, claims or {}), sign or genuine_signer())
    return with_token(genuine, token)


def outbound(lab: Lab) -> list[str]:
    """The addresses that brokers themselves have connected to; the workloads' own requests go to the brokers only."""
    return [str(one.url) for one in lab.road.passed if one.url.host.split(".")[0] not in lab.brokers]


async def is_not_authentic(lab: Lab, workload: LabWorkload, request: ReleaseRequest, check: str) -> None:
    """Check that a request is refused for this check of its token, and that it changes nothing for anybody.

    There is no release and no decision, the rejection is counted, and the challenge is not spent: the genuine workload
    is served with it.
    """
    lab.refused(await workload.send(request), "token_not_authentic", check=check, signed_over=request)
    await changes_nothing(lab, f"token_not_authentic/{check}")
    lab.released(await workload.send(workload.request(request.challenge)), workload)


async def is_malformed(lab: Lab, body: bytes, code: str = "malformed") -> None:
    """Check that a body is refused, unsigned, before anything of it is believed."""
    address = "https://alice.example/v1/releases"
    answer = await lab.client.post(address, content=body, headers={"content-type": "application/json"})
    lab.refused(answer, code, signed_over=None)
    await changes_nothing(lab, code)
    assert not outbound(lab)


async def changes_nothing(lab: Lab, counted: str) -> None:
    """Check that the audit has neither a release nor a decision, and that the rejection was counted."""
    nothing_but_rejections(lab)
    assert (await lab.alice.rejected())[counted] >= 1


def red_checks(lab: Lab) -> set[str]:
    """The checks that the audit's only refusal names. It keeps three of them, so there must not be more."""
    (record,) = lab.alice.records(AuditKind.REFUSAL)
    assert record["code"] == "appraisal_failed"
    assert record["failed_checks_count"] == len(record["failed_checks"])
    return {one["name"] for one in record["failed_checks"]}


async def is_not_agreed(lab: Lab, red: set[str], request: ReleaseRequest, workload: LabWorkload) -> None:
    """Check that an authentic token is refused by exactly these checks, releases nothing and spends its challenge."""
    answer = await workload.send(request)
    found = red_checks(lab)
    assert found == red
    first = lab.alice.records(AuditKind.REFUSAL)[0]["check"]
    lab.refused(answer, "appraisal_failed", check=first, signed_over=request)
    assert first in red
    assert not lab.alice.records(AuditKind.RELEASE)
    again = lab.workload().request(request.challenge)
    lab.refused(await workload.send(again), "challenge_used", signed_over=again)
    assert not lab.alice.records(AuditKind.RELEASE)


class KeyServer(httpx.AsyncBaseTransport):
    """The attestation service's published documents, with whatever is wrong with them.

    Attributes:
        discovery: The discovery document.
        keys: The members of the key set's list.
        answer: Answers instead, if given.
        open: While it is cleared, the server takes requests and never answers.
        fetches: How often the discovery document was asked for.
    """

    def __init__(self, lab: Lab, url: str = ISSUER) -> None:
        self.discovery: Json = issuer(url).discovery()
        self.keys: Any = issuer(url).jwks()["keys"]
        self.answer: Callable[[httpx.Request], httpx.Response] | None = None
        self.open = asyncio.Event()
        self.open.set()
        self.fetches = 0
        lab.road.hosts[httpx.URL(url).host] = self

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        asked_for_discovery = request.url.path == DISCOVERY_PATH
        self.fetches += asked_for_discovery
        await self.open.wait()
        if self.answer is not None:
            return self.answer(request)
        return json_answer(json.dumps(self.discovery if asked_for_discovery else {"keys": self.keys}).encode())


@dataclasses.dataclass(frozen=True)
class WeakKey:
    """An RSA key so short that Frank has factored it; short enough that no library makes or uses it."""

    modulus: int
    exponent: int
    private: int

    @classmethod
    def of(cls, bits: int) -> "WeakKey":
        dice = random.Random(bits)  # noqa: S311  # the same weak key in each run
        p, q = _prime(dice, bits // 2), _prime(dice, bits // 2)
        return cls(p * q, 65537, pow(65537, -1, (p - 1) * (q - 1)))

    def jwk(self, kid: str) -> Json:
        numbers = {"n": self.modulus, "e": self.exponent}
        encoded = {name: b64u_encode(n.to_bytes((n.bit_length() + 7) // 8, "big")) for name, n in numbers.items()}
        return {"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", **encoded}

    def sign(self, data: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2.1)."""
        length = (self.modulus.bit_length() + 7) // 8
        digest = _SHA256_INFO + hashlib.sha256(data).digest()
        padded = b"\x00\x01" + b"\xff" * (length - len(digest) - 3) + b"\x00" + digest
        return pow(int.from_bytes(padded, "big"), self.private, self.modulus).to_bytes(length, "big")


def _prime(dice: random.Random, bits: int) -> int:
    while True:
        candidate = dice.getrandbits(bits) | (3 << (bits - 2)) | 1
        if candidate % 65537 != 1 and all(pow(base, candidate - 1, candidate) == 1 for base in (2, 3, 5, 7)):
            return candidate
