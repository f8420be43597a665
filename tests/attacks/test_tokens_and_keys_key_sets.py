"""Whoever stands before the attestation service, or floods it, brings no false key in and no true one out."""

import asyncio
import dataclasses
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import httpx
import pytest

from mcbn_broker.attestation.fetching import DOCUMENT_BYTES
from mcbn_broker.attestation.key_sets import KeySetLimits
from mcbn_broker.audit.chain import AuditKind
from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import RoleTerms
from mcbn_protocol.messages import ReleaseRequest
from mcbn_simulator.signing_keys import SigningKey
from tests.attacks.lab_brokers import ISSUER, Handler, Lab, LabWorkload, issuer, json_answer, new_lab, reference
from tests.attacks.lab_tokens import (
    SECOND_ISSUER,
    KeyServer,
    Signer,
    WeakKey,
    changes_nothing,
    forged,
    franks_key,
    is_not_authentic,
    outbound,
    rs256,
)

FAMILY: Final = "Tokens and keys"
LIMITS: Final = KeySetLimits()
STALE: Final = int(LIMITS.lifetime_most)
CHUNK_BYTES: Final = 8192
FRANKS_JWKS: Final = "https://frank.example/jwks"


@pytest.fixture
async def lab(tmp_path):
    async with new_lab(tmp_path, "alice") as lab:
        lab.road.hosts["frank.example"] = Handler(lambda _request: pytest.fail("the broker talked to Frank"))
        yield lab


@pytest.fixture
def service(lab) -> KeyServer:
    return KeyServer(lab)


class Endless(httpx.AsyncByteStream):
    """A document of 100 MB, of which it is counted how much was taken."""

    def __init__(self, first: bytes) -> None:
        self.taken = 0
        self._first = first

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in (self._first, *(b" " * CHUNK_BYTES for _ in range(100_000_000 // CHUNK_BYTES))):
            self.taken += len(chunk)
            yield chunk


async def asked(lab: Lab) -> tuple[LabWorkload, ReleaseRequest]:
    workload = lab.workload()
    return workload, workload.request(await workload.challenge())


async def is_unavailable(lab: Lab, workload: LabWorkload, request: ReleaseRequest) -> None:
    """Check that a request is put off: no release, no decision, and a time after which to come back."""
    answer = await workload.send(request)
    lab.refused(answer, "keys_unavailable", signed_over=request)
    assert int(answer.headers["retry-after"]) >= 1
    await changes_nothing(lab, "keys_unavailable")


def _html(_request: httpx.Request) -> httpx.Response:
    page = httpx.ByteStream(b"<!doctype html><title>Sign in</title>")
    return httpx.Response(200, headers={"content-type": "text/html"}, stream=page)


def _redirect(request: httpx.Request) -> httpx.Response:
    there = {"location": f"{FRANKS_JWKS}?{request.url.path}"}
    return httpx.Response(302, headers=there, stream=httpx.ByteStream(b""))


def _compressed(_request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"\x1f\x8b"))


def _no_connection(_request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def _breaks(_request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("reset")


ANSWERS: Final[dict[str, Callable[[httpx.Request], httpx.Response]]] = {
    "no connection": _no_connection,
    "connection that breaks": _breaks,
    "HTML": _html,
    "redirect": _redirect,
    "compressed": _compressed,
    "error": lambda _request: json_answer(b"{}", 503),
    "not JSON": lambda _request: json_answer(b"\x00\xff{"),
    "a list": lambda _request: json_answer(b"[]"),
    "a member twice": lambda _request: json_answer(b'{"issuer": 1, "issuer": 2, "keys": [], "keys": []}'),
    "nothing": lambda _request: json_answer(b""),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_documents_replaced_at_the_start(lab, service, answer):
    """Frank stands before the attestation service when Alice's broker starts, and gives anything but its documents."""
    service.answer = answer
    workload, request = await asked(lab)
    await is_unavailable(lab, workload, request)
    service.answer = None
    lab.time.advance(1)
    lab.released(await workload.send(request), workload)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_documents_replaced_later(lab, service, answer):
    """Frank steps before the attestation service later: the good key set serves on, and ends at its hard limit."""
    await lab.workload().is_served()
    service.answer = answer
    lab.time.advance(STALE)
    await lab.workload().is_served()
    assert service.fetches == 2
    lab.time.advance(LIMITS.hard_limit - STALE)
    await lab.workload().is_served()
    lab.time.advance(1)
    workload, request = await asked(lab)
    lab.refused(await workload.send(request), "keys_unavailable", signed_over=request)
    service.answer = None
    lab.time.advance(LIMITS.backoff_most)
    lab.released(await workload.send(request), workload)
    assert len(lab.alice.records(AuditKind.RELEASE)) == 4


async def test_document_of_100_megabytes(lab, service):
    """Frank answers with 100 MB that begin as the true document, to fill the memory of Alice's broker."""
    streams: list[Endless] = []

    async def endless(request: httpx.Request) -> httpx.Response | None:
        if request.url.host != "issuer.example":
            return None
        streams.append(Endless(json.dumps(service.discovery).encode()))
        return httpx.Response(200, stream=streams[-1])

    lab.road.meddle = endless
    workload, request = await asked(lab)
    await is_unavailable(lab, workload, request)
    lab.road.meddle = None
    lab.time.advance(1)
    lab.released(await workload.send(request), workload)
    lab.road.meddle = endless
    lab.time.advance(STALE)
    await lab.workload().is_served()
    assert len(streams) == 2
    assert all(one.taken <= DOCUMENT_BYTES + CHUNK_BYTES for one in streams)


def hang(lab: Lab, service: KeyServer) -> None:
    """Let the service be silent, and the broker's deadline be short: nothing can come before it."""
    service.open.clear()
    lab.alice.key_sets._limits = dataclasses.replace(LIMITS, fetch_deadline=0.05)


def answer_again(lab: Lab, service: KeyServer) -> None:
    service.open.set()
    lab.alice.key_sets._limits = LIMITS


async def test_service_that_hangs(lab, service):
    """Frank lets every fetch of the keys hang, first with no set yet and then with an old one."""
    hang(lab, service)
    workload, request = await asked(lab)
    await is_unavailable(lab, workload, request)
    answer_again(lab, service)
    lab.time.advance(1)
    lab.released(await workload.send(request), workload)
    hang(lab, service)
    lab.time.advance(STALE)
    await lab.workload().is_served()  # waits for one fetch's deadline, the rest for none
    fetches = service.fetches
    for _ in range(5):
        await lab.workload().is_served()
    assert service.fetches == fetches


async def test_service_that_hangs_while_another_is_asked(tmp_path):
    """Frank lets one attestation service's documents hang, to hold up the workloads of another."""
    two = {
        role: RoleTerms(2, (reference(role), dataclasses.replace(reference(role), issuer=SECOND_ISSUER)))
        for role in Role
    }
    async with new_lab(tmp_path, "alice", roles=two, key_set_limits=KeySetLimits(fetch_deadline=30)) as lab:
        hung, _second = KeyServer(lab), KeyServer(lab, SECOND_ISSUER)
        hung.open.clear()
        workload, request = await asked(lab)
        waiting = asyncio.create_task(workload.send(request))
        other = lab.workload(number=2)
        fresh = other.request(await other.challenge(), signer=SECOND_ISSUER)
        lab.released(await other.send(fresh), other)
        assert not waiting.done()
        hung.open.set()
        lab.released(await waiting, workload)


# -- what is in the set


def services_key() -> dict[str, Any]:
    """The public key with which the service signs now."""
    return issuer(ISSUER).signing_key.jwk()


def franks(**changes: Any) -> tuple[dict[str, Any], Signer]:
    """A key of Frank's in the service's set, as if for something else, and his signature."""
    return franks_key().jwk() | {"kid": "weak"} | changes, rs256(franks_key().private_key)


OCT: Final = {"kty": "oct", "kid": "weak", "k": b64u_encode(b"public"), "use": "sig", "alg": "HS256"}
BROKEN_SETS: Final[dict[str, Callable[[], Any]]] = {
    "empty": list,
    "null": lambda: None,
    "an object": lambda: {"kid": services_key()},
    "not keys": lambda: [1, "key", None],
    "duplicate key id": lambda: [services_key(), franks_key().jwk() | {"kid": services_key()["kid"]}],
    "oct only": lambda: [OCT],
    "RSA-512 only": lambda: [WeakKey.of(512).jwk("weak")],
    "RSA-1024 only": lambda: [WeakKey.of(1024).jwk("weak")],
    "encryption keys only": lambda: [services_key() | {"use": "enc"}],
    "too many": lambda: [services_key() | {"kid": f"k{number}"} for number in range(33)],
}  # fmt: skip


@pytest.mark.parametrize("keys", BROKEN_SETS.values(), ids=BROKEN_SETS)
async def test_broken_set_never_replaces_a_good_one(lab, service, keys):
    """Somebody publishes a set without a usable key, or with one name for two, first at the start and then later."""
    good, service.keys = service.keys, keys()
    workload, request = await asked(lab)
    await is_unavailable(lab, workload, request)
    service.keys = good
    lab.time.advance(1)
    lab.released(await workload.send(request), workload)
    service.keys = keys()
    lab.time.advance(STALE)
    await lab.workload().is_served()


WEAK: Final[dict[str, Callable[[], tuple[dict[str, Any], Signer]]]] = {
    "RSA-512": lambda: (WeakKey.of(512).jwk("weak"), WeakKey.of(512).sign),
    "RSA-1024": lambda: (WeakKey.of(1024).jwk("weak"), WeakKey.of(1024).sign),
    "oct": lambda: (OCT, _hmac),
    "for encryption": lambda: franks(use="enc"),
    "of another algorithm": lambda: franks(alg="PS256"),
    "exponent 3": lambda: (services_key() | {"kid": "weak", "e": "Aw"}, lambda _data: b"\x00" * 256),
}  # fmt: skip


def _hmac(data: bytes) -> bytes:
    return hmac.new(b"public", data, hashlib.sha256).digest()


@pytest.mark.parametrize("weak", WEAK.values(), ids=WEAK)
async def test_weak_key_beside_a_good_one(lab, service, weak):
    """Frank has factored or guessed a weak key that stands in the service's set, and signs with it.

    Known as: weak keys and key-set confusion (RFC 8725 sections 3.2 and 3.5).
    """
    jwk, sign = weak()
    service.keys = [*service.keys, jwk]
    workload, request = await asked(lab)
    await is_not_authentic(lab, workload, forged(request, header={"kid": "weak"}, sign=sign), "token.key")


async def test_secret_of_the_set_as_an_hmac_key(lab, service):
    """Frank signs with HMAC under the key id of an oct key that the service, by mistake, publishes."""
    service.keys = [
        *service.keys,
        {"kty": "oct", "kid": "weak", "k": b64u_encode(b"public"), "use": "sig", "alg": "HS256"},
    ]
    workload, request = await asked(lab)
    hostile = forged(request, header={"kid": "weak", "alg": "HS256"}, sign=_hmac)
    await is_not_authentic(lab, workload, hostile, "token.algorithm")


async def test_key_of_one_service_in_the_name_of_another(tmp_path):
    """Mallory runs an attestation service that a manifest trusts too, and signs in the name of the other with its key.

    Known as: key-set confusion, or issuer and key not bound to each other (RFC 8725 section 3.8).
    """
    two = {
        role: RoleTerms(2, (reference(role), dataclasses.replace(reference(role), issuer=SECOND_ISSUER)))
        for role in Role
    }
    async with new_lab(tmp_path, "alice", roles=two) as lab:
        KeyServer(lab)
        KeyServer(lab, SECOND_ISSUER)
        other = lab.workload(number=2)
        lab.released(await other.send(other.request(await other.challenge(), signer=SECOND_ISSUER)), other)
        workload, request = await asked(lab)
        lying = workload.request(request.challenge, signer=SECOND_ISSUER, claimed_issuer=ISSUER)
        lab.refused(await workload.send(lying), "token_not_authentic", check="token.key", signed_over=lying)
        assert len(lab.alice.records(AuditKind.RELEASE)) == 1
        lab.released(await workload.send(request), workload)


async def test_withdrawn_key(lab, service):
    """Frank has stolen a signing key, the service has replaced it, and he goes on signing with it."""
    stolen = SigningKey.generate()
    service.keys = [stolen.jwk()]
    workload, request = await asked(lab)
    sign, header = rs256(stolen.private_key), {"kid": stolen.kid}
    lab.released(await workload.send(forged(request, header=header, sign=sign)), workload)  # nobody knew it yet
    service.keys = issuer(ISSUER).jwks()["keys"]
    lab.time.advance(LIMITS.cooldown)
    await lab.workload().is_served()  # the new key is unknown, so the set is fetched anew
    workload, request = await asked(lab)
    lab.time.advance(LIMITS.cooldown)
    late = forged(workload.request(request.challenge), header=header, sign=sign)
    lab.refused(await workload.send(late), "token_not_authentic", check="token.key", signed_over=late)
    assert len(lab.alice.records(AuditKind.RELEASE)) == 2


@pytest.mark.timeout(900)  # 10,000 are most of a minute of computing, and a machine may have other things to do
@pytest.mark.parametrize("ids", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
async def test_thousands_of_random_key_ids(lab, service, ids):
    """Frank sends thousands of tokens under random key ids, for one challenge, to have the keys fetched each time.

    Known as: indirect attacks on the server through kid (RFC 8725 sections 2.9 and 3.10).
    """
    await lab.workload().is_served()
    frank, request = await asked(lab)
    started, codes = lab.time.boottime, set()
    for number in range(ids):
        lab.time.advance(100 / ids)
        hostile = forged(request, header={"kid": f"random-{number}"}, sign=lambda _data: b"\x00" * 256)
        codes.add((await frank.send(hostile)).json()["code"])
        if number % (ids // 4) == 0:
            await lab.workload(number=2).is_served()
    assert codes == {"keys_unavailable", "token_not_authentic"}
    assert service.fetches <= 1 + (lab.time.boottime - started) / LIMITS.cooldown
    assert len(lab.alice.records(AuditKind.RELEASE)) == 1 + 4
    assert not lab.alice.records(AuditKind.REFUSAL)
    lab.released(await frank.send(frank.request(request.challenge)), frank)


# -- discovery

DISCOVERIES: Final[dict[str, dict[str, Any]]] = {
    "an attacker's issuer": {"issuer": "https://frank.example", "jwks_uri": FRANKS_JWKS},
    "an address without TLS": {"jwks_uri": "http://frank.example/jwks"},
    "a file": {"jwks_uri": "file:///etc/passwd"},
    "an address with a password": {"jwks_uri": "https://issuer.example@frank.example/jwks"},
    "no host": {"jwks_uri": "https:///jwks"},
    "no address": {"jwks_uri": ...},
    "no text": {"jwks_uri": [FRANKS_JWKS]},
    "a long address": {"jwks_uri": "https://frank.example/" + "a" * 5_000},
    "no issuer": {"issuer": ...},
    "issuer with a slash": {"issuer": f"{ISSUER}/"},
}  # fmt: skip


@pytest.mark.parametrize("changes", DISCOVERIES.values(), ids=DISCOVERIES)
async def test_discovery_that_leads_elsewhere(lab, service, changes):
    """Frank answers the request for the discovery document with one that names an address of his."""
    genuine = service.discovery
    service.discovery = {name: value for name, value in (genuine | changes).items() if value is not ...}
    workload, request = await asked(lab)
    await is_unavailable(lab, workload, request)
    assert {httpx.URL(one).host for one in outbound(lab)} == {"issuer.example"}
    service.discovery = genuine
    lab.time.advance(1)
    lab.released(await workload.send(request), workload)
