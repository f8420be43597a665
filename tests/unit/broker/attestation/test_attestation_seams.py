"""Where attestation meets libraries and the network: what is refused there is told with its place, word by word."""

import asyncio
import base64
import datetime as dt
import hashlib
import re
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mcbn_broker.attestation.certificate_chain import Chain, certificates, leaf_key, root_hash
from mcbn_broker.attestation.errors import NotAuthentic
from mcbn_broker.attestation.fetching import fetch, new_client
from mcbn_broker.attestation.key_sets import KeySets

NOW = 1_800_000_000
ISSUER = "https://attestation.example"
KEY = "d6d5071ab75246a42acfa46d29316311cdab51f7"
SIGNING_ONLY = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
AUTHORITY_ONLY = x509.KeyUsage(False, False, False, False, False, True, False, False, False)


class Authority:
    """Makes chains of three with one certificate changed."""

    def __init__(self, upper: RSAPrivateKey, lower: RSAPrivateKey) -> None:
        self.keys: dict[str, Any] = {"root": upper, "intermediate": lower, "leaf": upper}

    def certificate(self, name: str, issuer: str, *, signer: Any = None, key: Any = None, **more: Any) -> bytes:
        def named(text: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        moment, day = dt.datetime.fromtimestamp(NOW, dt.UTC), dt.timedelta(days=1)
        public = (key or self.keys[name]).public_key()
        builder = x509.CertificateBuilder(
            named(issuer), named(name), public, x509.random_serial_number(), moment - day, moment + day
        )
        basic = x509.BasicConstraints(ca=more.get("ca", name != "leaf"), path_length=more.get("length"))
        builder = builder.add_extension(basic, critical=True)
        for extension, critical in more.get("extensions", ()):
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(signer or self.keys[issuer], SHA256()).public_bytes(Encoding.DER)

    def chain(self, changed: str = "", **more: Any) -> Chain:
        issuers = {"leaf": "intermediate", "intermediate": "root", "root": "root"}
        return Chain(*(self.certificate(one, issuers[one], **(more if one == changed else {})) for one in issuers))


@pytest.fixture
def authority(private_key: RSAPrivateKey, other_private_key: RSAPrivateKey) -> Authority:
    return Authority(private_key, other_private_key)


def refusal(chain: Chain) -> str:
    with pytest.raises(NotAuthentic) as caught:
        leaf_key(chain, roots={chain.root_hash}, now=NOW)
    return caught.value.detail


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.11129.9.9"), b"\x05\x00")
UNREADABLE = x509.UnrecognizedExtension(x509.KeyUsage.oid, b"\x30\x80")
NOT_RSA = "its key is not RSA of 2048 to 8192 bits"


@pytest.mark.parametrize("place", ["leaf", "intermediate", "root"])
def test_each_fault_is_told_with_the_certificate_that_has_it(
    authority: Authority, place: str, other_private_key: RSAPrivateKey, private_key: RSAPrivateKey
) -> None:
    junk = authority.chain()._replace(**{place: b"junk"})
    assert refusal(junk) == f"{place}: no X.509 certificate in DER: ValueError"
    unknown = authority.chain(place, extensions=[(UNKNOWN, True)])
    assert refusal(unknown) == f"{place}: unknown critical extension 1.3.6.1.4.1.11129.9.9"
    unreadable = authority.chain(place, extensions=[(UNREADABLE, True)])
    assert refusal(unreadable) == f"{place}: its extensions cannot be read: ValueError"
    forger = private_key if place == "leaf" else other_private_key  # not the issuer's key
    forged = authority.chain(place, signer=forger)
    assert refusal(forged) == f"{place}: the next certificate did not issue it: InvalidSignature"
    if place != "root":
        assert refusal(authority.chain(place, key=Ed25519PrivateKey.generate())) == f"{place}: {NOT_RSA}"


def test_each_authority_is_told_by_its_place(authority: Authority) -> None:
    for place in ("intermediate", "root"):
        told = f"{place}: basic constraints must say, critically, that it is an authority"
        assert refusal(authority.chain(place, ca=False)) == told
        told = f"{place}: its key usage does not admit signing certificates"
        assert refusal(authority.chain(place, extensions=[(SIGNING_ONLY, True)])) == told
    assert refusal(authority.chain("leaf", ca=True)) == "leaf: basic constraints must say that it is no authority"
    told = "leaf: its key usage does not admit signing tokens"
    assert refusal(authority.chain("leaf", extensions=[(AUTHORITY_ONLY, True)])) == told
    told = "root: its path length 0 does not admit the certificates below it"
    assert refusal(authority.chain("root", length=0)) == told


@pytest.mark.parametrize(("root", "intermediate"), [(1, 0), (2, 1), (None, None), (1, None)])
def test_path_lengths_that_just_suffice(authority: Authority, root: int | None, intermediate: int | None) -> None:
    upper, lower = authority.chain("root", length=root), authority.chain("intermediate", length=intermediate)
    chain = lower._replace(root=upper.root)
    assert leaf_key(chain, roots={chain.root_hash}, now=NOW) == authority.keys["leaf"].public_key()
    assert root_hash(chain.root) == hashlib.sha256(chain.root).digest()


def test_what_cannot_be_pinned_is_told_as_the_root(authority: Authority, other_private_key: RSAPrivateKey) -> None:
    chain = authority.chain()
    cases = {
        b"junk": "root: no X.509 certificate in DER: ValueError",
        chain.intermediate: "root: the next certificate did not issue it: ValueError",
        authority.chain("root", ca=False).root: "root: basic constraints must say, critically, that it is an authority",
        authority.chain("root", length=0).root: "root: its path length 0 does not admit the certificates below it",
        authority.chain("root", signer=other_private_key).root:
            "root: the next certificate did not issue it: InvalidSignature",
    }  # fmt: skip
    for der, told in cases.items():
        with pytest.raises(NotAuthentic, match=f"^token.chain: {re.escape(told)}$"):
            root_hash(der)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("A", "not standard base64"), ("AAAA\n", "not standard base64"), ("AA AA", "not standard base64"),
        ("AA-_", "not standard base64"), ("é" * 4, "not standard base64"), ("AB==", "not canonical base64"),
    ],
)  # fmt: skip
def test_base64_of_another_form_is_told(text: str, told: str) -> None:
    fine = [base64.b64encode(one).decode() for one in (b"1", b"2")]
    with pytest.raises(NotAuthentic, match=f"^token.chain: root: {told}$"):
        certificates({"x5c": [*fine, text]})


async def test_a_document_is_asked_for_once_and_with_get() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={})

    await fetch(new_client(httpx.MockTransport(answer)), "https://keys.example/k")
    assert [(one.method, str(one.url)) for one in requests] == [("GET", "https://keys.example/k")]


async def test_after_closing_no_fetch_is_left(key_sets: KeySets, service: Any) -> None:
    service.open.clear()
    request = asyncio.create_task(key_sets.key(ISSUER, KEY))
    await service.arrived.wait()
    others = asyncio.all_tasks() - {request, asyncio.current_task()}
    assert others
    await key_sets.aclose()
    assert all(one.done() for one in others)
    with pytest.raises(asyncio.CancelledError):
        await request


async def test_a_request_for_a_set_past_its_hard_limit_waits_for_the_service_that_is_back(
    key_sets: KeySets, service: Any, clock: Any
) -> None:
    await key_sets.key(ISSUER, KEY)
    service.error = httpx.ConnectError("refused")
    clock.now += 3600
    assert await key_sets.key(ISSUER, KEY)
    assert key_sets.states()[0].failures == 1
    service.error = None
    clock.now += 24 * 3600
    assert await key_sets.key(ISSUER, KEY)
    assert service.fetches == 3
