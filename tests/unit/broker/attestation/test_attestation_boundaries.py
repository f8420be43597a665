"""The edges of attestation: exactly at each limit and one beyond it, and what a single changed word would break."""

import asyncio
import base64
import dataclasses
import datetime as dt
import hashlib
import json
import math
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mcbn_broker.attestation import certificate_chain, published_keys
from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.certificate_chain import CERTIFICATE_CHARS, Chain, certificates, leaf_key, root_hash
from mcbn_broker.attestation.confidential_space import (
    LEEWAY_SECONDS,
    MAXIMUM_AGE_SECONDS,
    ConfidentialSpaceVerifier,
    _accepted,
)
from mcbn_broker.attestation.errors import AttestationError, KeysUnavailable, NotAuthentic, TokenCheck
from mcbn_broker.attestation.fetching import DOCUMENT_BYTES, Document, DocumentError, fetch, new_client
from mcbn_broker.attestation.key_sets import KeySetLimits, KeySets
from mcbn_broker.attestation.printable import PRINTABLE_CHARS, printable
from mcbn_broker.attestation.published_keys import (
    DISCOVERY_PATH,
    KEYS_MAX,
    RSA_BITS,
    PublishedKeys,
    fetch_published_keys,
    key_set_url,
    parse_key_set,
)
from mcbn_broker.attestation.result import AttestationResult
from mcbn_broker.attestation.strict_json import NotStrictJsonError, parse_object
from mcbn_broker.attestation.strict_jws import ALGORITHM, CHAIN, KEY_ID, OIDC, PKI, parse
from mcbn_broker.attestation.token_checks import check_times
from mcbn_broker.errors import EXIT_CODES
from mcbn_protocol.limits import TEXT_CHARS, TIME_MAX
from mcbn_protocol.reference_values import EvidenceKind

NOW = 1_800_000_000
ISSUER = "https://attestation.example"
KEY = "d6d5071ab75246a42acfa46d29316311cdab51f7"
REFUSED = EXIT_CODES["refused"].number


def test_the_limits_are_the_documented_ones() -> None:
    assert (CERTIFICATE_CHARS, DOCUMENT_BYTES, PRINTABLE_CHARS, KEYS_MAX) == (8192, 65536, 256, 32)
    assert range(2048, 8193) == RSA_BITS
    assert (MAXIMUM_AGE_SECONDS, LEEWAY_SECONDS) == (300, 60)
    assert (OIDC.name, OIDC.maximum_chars, OIDC.has_chain) == ("OIDC", 16384, False)
    assert (PKI.name, PKI.maximum_chars, PKI.has_chain) == ("PKI", 32768, True)
    assert (ALGORITHM, CHAIN) == ("RS256", "x5c")
    assert KEY_ID.pattern == "[A-Za-z0-9_-]{1,128}"
    assert dataclasses.asdict(KeySetLimits()) == {
        "fetch_deadline": 10, "cooldown": 30, "backoff_first": 1, "backoff_most": 60, "lifetime_least": 300,
        "lifetime_most": 3600, "hard_limit": 86400, "absent_ids": 256,
    }  # fmt: skip


def test_the_checks_have_the_names_that_callers_know() -> None:
    assert [str(one) for one in TokenCheck] == [
        "token.size", "token.form", "token.algorithm", "token.header", "token.audience", "token.issuer",
        "token.nonces", "token.chain", "token.key", "token.signature", "token.times", "token.not_yet_valid",
        "token.expired", "token.age",
    ]  # fmt: skip


def test_the_errors_say_what_callers_need() -> None:
    refusal = NotAuthentic(TokenCheck.AGE, "too old")
    assert (str(refusal), refusal.check, refusal.detail) == ("token.age: too old", TokenCheck.AGE, "too old")
    later = KeysUnavailable(7, "no set")
    assert (str(later), later.retry_after, later.detail) == ("no set; try again in 7 s", 7, "no set")
    kinds: list[type[AttestationError]] = [AttestationError, NotAuthentic, KeysUnavailable, DocumentError]
    assert [(kind.code, kind.exit_code) for kind in kinds] == [
        ("attestation_failed", REFUSED), ("token_not_authentic", REFUSED), ("keys_unavailable", REFUSED),
        ("document_unusable", REFUSED),
    ]  # fmt: skip


def test_what_was_verified_is_neither_changed_nor_shown(mint: Any) -> None:
    result = AttestationResult(EvidenceKind.CONFIDENTIAL_SPACE, ISSUER, None, {"secret-claim": 1})
    assert "secret-claim" not in repr(result)
    token = parse(mint.token(), profiles=(OIDC,))
    assert repr(token) == f"UnverifiedToken(profile={OIDC!r}, key_id='{KEY}')"
    anchors = TrustAnchors(frozenset({ISSUER}), {ISSUER: frozenset({b"1"})})
    frozen: list[tuple[Any, str]] = [
        (result, "issuer"), (token, "key_id"), (anchors, "issuers"), (OIDC, "maximum_chars"),
        (KeySetLimits(), "cooldown"), (Document({}, None), "members"), (PublishedKeys({}, None), "keys"),
    ]  # fmt: skip
    for value, name in frozen:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)
    with pytest.raises(TypeError):
        anchors.roots[ISSUER] = frozenset()  # type: ignore[index]  # that it is not allowed is the point


def test_anchors_keep_a_copy() -> None:
    roots = {ISSUER: frozenset({b"1"})}
    anchors = TrustAnchors(frozenset(), roots)
    roots.clear()
    assert anchors.roots == {ISSUER: {b"1"}}


def test_an_instance_is_named_by_its_string() -> None:
    claims = {"submods": {"gce": {"instance_id": "42"}}, "gce": {"instance_id": "43"}, "instance_id": "44"}
    assert AttestationResult(EvidenceKind.CONFIDENTIAL_SPACE, ISSUER, None, claims).instance_id == "42"


def test_accepted_types_are_those_that_can_be_judged() -> None:
    roots = {ISSUER: frozenset({b"1"})}
    assert _accepted(TrustAnchors(frozenset({ISSUER}), roots)) == (OIDC, PKI)
    assert _accepted(TrustAnchors(frozenset(), roots)) == (PKI,)
    assert _accepted(TrustAnchors(frozenset({ISSUER}), {})) == (OIDC,)
    assert _accepted(TrustAnchors(frozenset(), {})) == ()


# What is shown of somebody else's value.


@pytest.mark.parametrize("size", [PRINTABLE_CHARS - 3, PRINTABLE_CHARS - 2, PRINTABLE_CHARS - 1, PRINTABLE_CHARS, 1000])
def test_what_is_shown_is_cut_where_it_is_too_long(size: int) -> None:
    whole = '"' + "a" * size + '"'
    shown = printable("a" * size)
    assert shown == (whole if len(whole) <= 256 else whole[:253] + "...")
    assert printable(["a" * size])[:2] == '["'
    assert len(printable(["a" * size])) <= 256


def test_what_is_shown_is_printable() -> None:
    assert printable("\x7f\x1b\u202e") == '"\\u007f\\u001b\\u202e"'
    assert printable({1}) == "<set>"
    circular: list[Any] = []
    circular.append(circular)
    assert printable(circular) == "<list>"
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert printable(deep) == "<list>"
    while deep:  # a deep list is not to be freed at once
        deep = deep.pop()


# Strict JSON.


@pytest.mark.parametrize("text", ["9007199254740991", "-9007199254740991", "0", "-0", "1e300", "-1.5", "0." + "1" * 30])
def test_numbers_up_to_the_last_are_kept(text: str) -> None:
    assert parse_object(f'{{"a": {text}}}'.encode()) == {"a": json.loads(text)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("9007199254740992", "an integer is outside"), ("-9007199254740992", "an integer is outside"),
        ("1" * 33, "an integer is outside"), ("1" * 10_000, "an integer is outside"),
        ("0." + "1" * 31, "a number is too long"), ("1e400", "a number is too long"),
        ("-1e400", "a number is too long"),
        ("NaN", "NaN is not JSON"), ("Infinity", "Infinity is not JSON"), ("-Infinity", "-Infinity is not JSON"),
        ('{"b": 1, "b": 1}', "the same member twice"), ('"\\ud800"', "a lone surrogate"), ("[", "not JSON: Expecting"),
        ("[" * 100_000, "nested too deeply"), ("[" * 40 + "]" * 40, "nested too deeply"),
    ],
)  # fmt: skip
def test_what_parsers_would_guess_about_is_refused_with_its_reason(text: str, problem: str) -> None:
    with pytest.raises(NotStrictJsonError, match=problem):
        parse_object(f'{{"a": {text}}}'.encode())


@pytest.mark.parametrize("data", [b"[]", b"1", b'"a"', b"null", b"true"])
def test_only_an_object_is_a_document(data: bytes) -> None:
    with pytest.raises(NotStrictJsonError, match="an object is expected"):
        parse_object(data)


def test_what_is_not_utf_8_is_refused() -> None:
    with pytest.raises(NotStrictJsonError, match="not UTF-8"):
        parse_object(b'{"a": "\xff"}')


# The form of a token.


@pytest.mark.parametrize("profiles", [(OIDC,), (OIDC, PKI)])
def test_a_token_of_exactly_the_limit_is_read(mint: Any, profiles: Any) -> None:
    def token(size: int) -> str:
        """A token without a true signature, so that every length can be had."""
        head = json.dumps(mint.header()).encode()
        prefix = f"{base64.urlsafe_b64encode(head).rstrip(b'=').decode()}.e30."
        return prefix + "A" * (size - len(prefix))

    assert parse(token(OIDC.maximum_chars), profiles=profiles).claims == {}
    with pytest.raises(NotAuthentic, match=f"at most {OIDC.maximum_chars}") as caught:
        parse(token(OIDC.maximum_chars + 1), profiles=profiles)
    assert caught.value.check == "token.size"


def test_the_larger_limit_holds_before_the_type_is_known() -> None:
    for profiles, most in (((OIDC,), 16384), ((OIDC, PKI), 32768), ((PKI, OIDC), 32768), ((), 0)):
        with pytest.raises(NotAuthentic, match=f"{most + 1} characters, at most {most}$"):
            parse("." * (most + 1), profiles=profiles)


@pytest.mark.parametrize("member", ["jku", "x5u", "jwk", "crit", "b64"])
def test_a_header_that_names_its_judge_or_an_extension_is_refused_by_name(mint: Any, member: str) -> None:
    with pytest.raises(NotAuthentic, match=f"a token must not have {member}$") as caught:
        parse(mint.headed(**{member: None}), profiles=(OIDC, PKI))
    assert caught.value.check == "token.header"


def test_a_type_of_token_that_is_not_accepted_is_told(mint: Any) -> None:
    cases: list[Any] = [
        ({"x5c": []}, (OIDC,), "it has x5c, but only OIDC tokens"),
        ({}, (PKI,), "it has no x5c, but only PKI"),
    ]
    for more, profiles, detail in cases:
        with pytest.raises(NotAuthentic, match=detail) as caught:
            parse(mint.headed(**more), profiles=profiles)
        assert caught.value.check == "token.header"
    assert parse(mint.headed(x5c=None), profiles=(OIDC, PKI)).profile is PKI
    assert parse(mint.token(), profiles=(OIDC, PKI)).profile is OIDC


def test_the_parts_of_a_token_are_its_own(mint: Any) -> None:
    text = mint.token()
    token = parse(text, profiles=(OIDC,))
    signed, _, signature = text.rpartition(".")
    assert token.signing_input == signed.encode()
    assert token.signature == base64.urlsafe_b64decode(signature + "==")
    assert (token.header, token.key_id, token.claims) == (mint.header(), KEY, mint.claims())


@pytest.mark.parametrize("key_id", ["a", "a" * 128, "A-Z_09"])
def test_key_ids_up_to_the_longest(mint: Any, key_id: str) -> None:
    assert parse(mint.headed(kid=key_id), profiles=(OIDC,)).key_id == key_id


# Times.


def judge_times(iat: int, nbf: int, exp: int, now: int = NOW) -> str | None:
    try:
        check_times({"iat": iat, "nbf": nbf, "exp": exp}, now=now, maximum_age_seconds=300, leeway_seconds=60)
    except NotAuthentic as refused:
        return refused.check.value
    return None


@pytest.mark.parametrize(
    ("iat", "nbf", "exp", "check"),
    [
        (NOW, NOW, NOW + 1, None), (NOW, NOW, NOW, "token.times"),
        (NOW, NOW, NOW + 7200, None), (NOW, NOW, NOW + 7201, "token.times"),
        (NOW + 60, NOW, NOW + 100, None), (NOW + 61, NOW, NOW + 100, "token.not_yet_valid"),
        (NOW, NOW + 60, NOW + 100, None), (NOW, NOW + 61, NOW + 100, "token.not_yet_valid"),
        (NOW - 100, NOW - 100, NOW - 59, None), (NOW - 100, NOW - 100, NOW - 60, "token.expired"),
        (NOW - 300, NOW - 300, NOW + 1, None), (NOW - 301, NOW - 301, NOW + 1, "token.age"),
    ],
)  # fmt: skip
def test_the_edges_of_each_time(iat: int, nbf: int, exp: int, check: str | None) -> None:
    assert judge_times(iat, nbf, exp) == check


def test_the_first_and_the_last_second_are_times() -> None:
    assert judge_times(1, 1, 2, now=1) is None
    assert judge_times(0, 1, 2, now=1) == "token.times"
    assert judge_times(TIME_MAX - 1, TIME_MAX - 1, TIME_MAX, now=TIME_MAX - 1) is None
    assert judge_times(TIME_MAX - 1, TIME_MAX - 1, TIME_MAX + 1, now=TIME_MAX - 1) == "token.times"


async def test_a_verifier_has_the_age_and_the_leeway_that_it_was_given(keys: Any, mint: Any) -> None:
    anchors = TrustAnchors(frozenset({ISSUER}), {})
    arguments: dict[str, Any] = {"anchors": anchors, "audience": mint.claims()["aud"], "nonces": ("C" * 55, "B" * 43)}
    strict = ConfidentialSpaceVerifier(keys, maximum_age_seconds=4, leeway_seconds=60)
    with pytest.raises(NotAuthentic, match="issued 5 s ago, at most 4 s"):
        await strict.verify(mint.token(), now=NOW, **arguments)
    tight = ConfidentialSpaceVerifier(keys, maximum_age_seconds=300, leeway_seconds=2)
    with pytest.raises(NotAuthentic, match="compare clocks"):
        await tight.verify(mint.token(), now=NOW - 8, **arguments)
    result = await tight.verify(mint.token(), now=NOW - 7, **arguments)
    assert (result.kind, result.issuer, result.root) == (EvidenceKind.CONFIDENTIAL_SPACE, ISSUER, None)


# Certificates.


def certificate(subject: str, key: Any, issuer: str, issuer_key: Any, algorithm: Any) -> bytes:
    moment = dt.datetime.fromtimestamp(NOW, dt.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    day = dt.timedelta(days=1)
    builder = x509.CertificateBuilder(
        name(issuer), name(subject), key.public_key(), x509.random_serial_number(), moment - day, moment + day
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=subject != "leaf", path_length=None), critical=True)
    return builder.sign(issuer_key, algorithm).public_bytes(Encoding.DER)


@pytest.fixture
def chain(private_key: RSAPrivateKey, other_private_key: RSAPrivateKey) -> Any:
    """Give three certificates whose signatures use one hash."""

    def build(algorithm: Any) -> Chain:
        return Chain(
            certificate("leaf", private_key, "intermediate", other_private_key, algorithm),
            certificate("intermediate", other_private_key, "root", private_key, algorithm),
            certificate("root", private_key, "root", private_key, algorithm),
        )

    return build


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
def test_signatures_of_sha_256_and_better_are_taken(chain: Any, private_key: RSAPrivateKey, algorithm: Any) -> None:
    built = chain(algorithm)
    assert leaf_key(built, roots={built.root_hash}, now=NOW) == private_key.public_key()
    assert root_hash(built.root) == built.root_hash == hashlib.sha256(built.root).digest()


@pytest.mark.parametrize("algorithm", [hashes.SHA224(), hashes.SHA3_256()])
def test_signatures_of_other_hashes_are_refused(chain: Any, algorithm: Any) -> None:
    with pytest.raises(NotAuthentic, match=r"root: signed by [0-9.]+, not by RSA"):
        root_hash(chain(algorithm).root)


def test_validity_ends_after_its_last_second(chain: Any) -> None:
    built = chain(hashes.SHA256())
    for now in (NOW - 86400, NOW + 86400):
        assert leaf_key(built, roots={built.root_hash}, now=now)
    for now in (NOW - 86401, NOW + 86401):
        with pytest.raises(NotAuthentic, match=f"valid from {NOW - 86400} to {NOW + 86400}, now {now}: compare clocks"):
            leaf_key(built, roots={built.root_hash}, now=now)


def test_the_pinned_roots_are_told_in_order(chain: Any) -> None:
    built = chain(hashes.SHA256())
    with pytest.raises(NotAuthentic, match=f"not at a pinned one: {'01' * 32}, {'02' * 32}, {'03' * 32}$"):
        leaf_key(built, roots={bytes([number]) * 32 for number in (2, 3, 1)}, now=NOW)


FOREIGN = [
    ValueError(), TypeError(), InvalidSignature(), UnsupportedAlgorithm("odd"), x509.InvalidVersion("odd", 7),
    x509.DuplicateExtension("odd", NameOID.COMMON_NAME), x509.UnsupportedGeneralNameType("odd"),
]  # fmt: skip


@pytest.mark.parametrize("error", FOREIGN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("signature_algorithm_oid", "root: no X.509 certificate in DER"),
        ("public_key", "root: its key cannot be read"),
        ("verify_directly_issued_by", "root: the next certificate did not issue it"),
        ("extensions", "root: its extensions cannot be read"),
    ],
)
def test_every_error_of_the_certificate_library_is_a_refusal(
    chain: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str, told: str
) -> None:
    genuine = x509.load_der_x509_certificate

    class Odd:
        def __init__(self, der: bytes) -> None:
            self._certificate = genuine(der)

        def __getattr__(self, name: str) -> Any:
            if name != place:
                return getattr(self._certificate, name)
            if place.endswith(("oid", "extensions")):
                raise error
            return self._fail

        @staticmethod
        def _fail(*_arguments: Any) -> None:
            raise error

    built = chain(hashes.SHA256())
    monkeypatch.setattr(x509, "load_der_x509_certificate", Odd)
    if place == "extensions":  # the signature is judged before, by the library's own objects
        monkeypatch.setattr(certificate_chain, "_check_vouched", lambda *_arguments: None)
    with pytest.raises(NotAuthentic, match=told) as caught:
        root_hash(built.root)
    assert str(caught.value).endswith(f": {type(error).__name__}")


def test_certificates_of_exactly_the_limit_are_decoded() -> None:
    texts = ["A" * (CERTIFICATE_CHARS - 4) + end for end in ("AAAA", "AAAB", "AAAC")]
    assert [len(der) for der in certificates({"x5c": texts})] == [CERTIFICATE_CHARS * 3 // 4] * 3
    for at, name in enumerate(("leaf", "intermediate", "root")):
        for wrong in ("", "A" * (CERTIFICATE_CHARS + 4), 5):
            with pytest.raises(NotAuthentic, match=f"{name}: a string of 1 to {CERTIFICATE_CHARS} characters"):
                certificates({"x5c": [*texts[:at], wrong, *texts[at + 1 :]]})
    assert [len(der) for der in certificates({"x5c": ["AA==", "AQ==", "Ag=="]})] == [1, 1, 1]


# Fetching.


def test_the_client_is_made_with_these_options_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(httpx, "AsyncClient", lambda **options: made.update(options))
    transport = httpx.MockTransport(lambda _request: httpx.Response(200))
    new_client(transport)
    assert made == {
        "transport": transport,
        "trust_env": False,
        "follow_redirects": False,
        "timeout": httpx.Timeout(5.0),
        "limits": httpx.Limits(max_connections=4, max_keepalive_connections=0),
        "headers": {"Accept": "application/json", "Accept-Encoding": "identity"},
    }
    new_client()
    assert made["transport"] is None


async def got(**answer: Any) -> Document:
    status = answer.pop("status", 200)
    client = new_client(httpx.MockTransport(lambda _request: httpx.Response(status, **answer)))
    return await fetch(client, "https://keys.example/")


async def test_a_document_of_exactly_the_limit_is_read() -> None:
    assert (await got(content=b"{}".ljust(DOCUMENT_BYTES))).members == {}
    with pytest.raises(DocumentError, match="longer than 65536 bytes"):
        await got(content=b"{}".ljust(DOCUMENT_BYTES + 1))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("max-age=0", 0), ("MAX-AGE=60", 60), ("public, max-age=60, must-revalidate", 60), ("public,max-age=60,x", 60),
        ("max-age=999999999", 999999999), ("max-age=60 ", 60), ("a max-age=60", 60),
        ("xmax-age=60", None), ("max-age=60s", None), ("max-age=1234567890", None), ("max-age=", None), ("", None),
        ("no-store", None), ("s-maxage=60", None), ("max-age=-1", None),
    ],
)  # fmt: skip
async def test_how_long_a_document_may_be_kept(header: str, seconds: int | None) -> None:
    assert (await got(json={}, headers={"cache-control": header})).maximum_age_seconds == seconds
    assert (await got(json={})).maximum_age_seconds is None


@pytest.mark.parametrize("status", [199 + 2, 204, 206, 301, 304, 307, 404, 500])
async def test_only_200_is_an_answer(status: int) -> None:
    with pytest.raises(DocumentError, match=f"status {status}, where 200 is expected"):
        await got(status=status, json={})


async def test_identity_is_the_only_encoding() -> None:
    assert (await got(content=b"{}", headers={"content-encoding": "identity"})).members == {}
    with pytest.raises(DocumentError, match="compressed, which was not asked for"):
        await got(content=b"{}", headers={"content-encoding": "other"})


# Key sets.


async def test_the_deadline_is_the_callers(client: Any, service: Any) -> None:
    service.open.clear()
    with pytest.raises(DocumentError, match=f"^{ISSUER}: no key set within 0 s$"):
        await fetch_published_keys(client, ISSUER, deadline_seconds=0)
    service.open.set()
    assert await fetch_published_keys(client, ISSUER, deadline_seconds=60)
    assert DISCOVERY_PATH == "/.well-known/openid-configuration"
    assert str(service.requests[-2].url) == ISSUER + DISCOVERY_PATH


def test_an_address_of_exactly_the_limit_is_taken() -> None:
    address = "https://keys.example/".ljust(TEXT_CHARS, "a")
    assert key_set_url({"issuer": ISSUER, "jwks_uri": address}, ISSUER) == address
    for wrong in (address + "a", None, 5, [address]):
        with pytest.raises(DocumentError, match="has no usable jwks_uri"):
            key_set_url({"issuer": ISSUER, "jwks_uri": wrong}, ISSUER)


@pytest.mark.parametrize(
    ("issuer", "address", "good"),
    [
        (ISSUER, "https://other.example/k", True), (ISSUER, "https://other.example:8443/k", True),
        (ISSUER, "http://attestation.example/k", False), (ISSUER, "http://other.example/k", False),
        (ISSUER, "https://user@other.example/k", False), (ISSUER, "https:///k", False), (ISSUER, "k", False),
        ("http://127.0.0.1:9", "http://127.0.0.1:9/k", True), ("http://127.0.0.1:9", "http://127.0.0.1:8/k", False),
        ("http://127.0.0.1:9", "http://127.0.0.2:9/k", False), ("http://127.0.0.1:9", "ftp://127.0.0.1:9/k", False),
        ("http://127.0.0.1:9", "http://user@127.0.0.1:9/k", False), ("http://127.0.0.1:9", "https://a.example/k", True),
    ],
)  # fmt: skip
def test_where_keys_may_come_from(issuer: str, address: str, good: bool) -> None:
    document = {"issuer": issuer, "jwks_uri": address}
    if good:
        assert key_set_url(document, issuer) == address
    else:
        with pytest.raises(DocumentError, match="must be https"):
            key_set_url(document, issuer)


def test_a_key_set_of_exactly_the_limit_is_taken(jwk: Any, private_key: RSAPrivateKey) -> None:
    keys = [jwk(private_key, kid=f"key-{number}") for number in range(KEYS_MAX)]
    assert set(parse_key_set({"keys": keys})) == {f"key-{number}" for number in range(KEYS_MAX)}
    for wrong in ([], [*keys, {}], None, {"a": 1}, "keys"):
        with pytest.raises(DocumentError, match="a key set has a list of 1 to 32 keys"):
            parse_key_set({"keys": wrong})


@pytest.mark.parametrize(
    "changes",
    [
        {"kty": "EC"}, {"kty": ...}, {"use": "enc"}, {"use": ...}, {"alg": "RS384"}, {"alg": None}, {"kid": ...},
        {"kid": ""}, {"kid": "a" * 129}, {"kid": "a b"}, {"kid": 5}, {"kid": None}, {"n": ...}, {"n": "!"}, {"n": 5},
        {"e": ...}, {"e": "AQAC"}, {"e": "Aw"}, {"e": "!"}, {"e": None}, {"n": "AQAB"},
    ],
)  # fmt: skip
def test_an_unusable_key_is_left_out_beside_a_good_one(jwk: Any, private_key: RSAPrivateKey, changes: Any) -> None:
    good, odd = jwk(private_key), jwk(private_key, **({"kid": "odd"} | changes))
    assert set(parse_key_set({"keys": [odd, good, 5, None, [], "key"]})) == {KEY}
    with pytest.raises(DocumentError, match="no usable key"):
        parse_key_set({"keys": [odd]})


@pytest.mark.parametrize("bits", [2047, 2048, 2049, 8191, 8192, 8193])
def test_moduli_from_2048_to_8192_bits(jwk: Any, private_key: RSAPrivateKey, bits: int) -> None:
    modulus = (1 << (bits - 1)) + 1
    n = base64.urlsafe_b64encode(modulus.to_bytes((bits + 7) // 8, "big")).rstrip(b"=").decode()
    found = parse_key_set({"keys": [jwk(private_key, kid="good"), jwk(private_key, kid="sized", n=n)]})
    assert ("sized" in found) is (2048 <= bits <= 8192)
    if bits == 2048:
        assert found["sized"].public_numbers().n == modulus
        even = base64.urlsafe_b64encode((modulus - 1).to_bytes(256, "big")).rstrip(b"=").decode()
        assert set(parse_key_set({"keys": [jwk(private_key), jwk(private_key, kid="even", n=even)]})) == {KEY}


async def test_limits_of_a_set_count_in_seconds(client: Any, service: Any, clock: Any) -> None:
    service.headers = {"cache-control": "max-age=1000"}
    key_sets = KeySets(client, limits=KeySetLimits(), clock=clock, sleep=asyncio.sleep, jitter=lambda: 0.5)
    assert key_sets.age(ISSUER) is None
    assert key_sets.states() == ()
    await key_sets.key(ISSUER, KEY)
    for seconds, fetches in ((999, 1), (1000, 2)):
        clock.now = 1000 + seconds
        await key_sets.key(ISSUER, KEY)
        assert service.fetches == fetches
    assert key_sets.age(ISSUER) == 0
    clock.now += 12
    (state,) = key_sets.states()
    assert dataclasses.astuple(state) == (ISSUER, 12, 1, True, 0, None)


@pytest.mark.parametrize("case", [(0.0, 1000, 700), (0.5, 1000, 800), (0.0, 10, 210), (0.5, 99999, 2880)])
async def test_the_background_task_fetches_well_before_the_end(
    client: Any, service: Any, clock: Any, case: tuple[float, int, int]
) -> None:
    jitter, maximum_age, seconds = case
    service.headers = {"cache-control": f"max-age={maximum_age}"}
    slept: list[float] = []

    async def sleep(duration: float) -> None:
        slept.append(duration)
        if service.fetches == 2:
            raise asyncio.CancelledError
        clock.now += duration

    key_sets = KeySets(client, limits=KeySetLimits(), clock=clock, sleep=sleep, jitter=lambda: jitter)
    key_sets.follow([ISSUER])
    with pytest.raises(asyncio.CancelledError):
        await key_sets.refresh_forever()
    assert -0.001 < clock.now - 1000 - seconds < 0.2
    assert max(slept) == 5.0
    assert min(slept) >= 0.1


async def test_the_background_task_never_sleeps_shorter_than_a_tenth_of_a_second(client: Any, clock: Any) -> None:
    slept: list[float] = []

    async def sleep(duration: float) -> None:
        slept.append(duration)
        raise asyncio.CancelledError

    limits = dataclasses.replace(KeySetLimits(), lifetime_least=0.0, lifetime_most=0.0, cooldown=0.0)
    key_sets = KeySets(client, limits=limits, clock=clock, sleep=sleep, jitter=lambda: 0.5)
    key_sets.follow([ISSUER])
    with pytest.raises(asyncio.CancelledError):
        await key_sets.refresh_forever()
    assert slept == [0.1]


async def test_the_first_second_after_a_failure_and_the_cooldown(client: Any, service: Any, clock: Any) -> None:
    key_sets = KeySets(client, limits=KeySetLimits(), clock=clock, sleep=asyncio.sleep, jitter=lambda: 0.5)
    await key_sets.key(ISSUER, KEY)
    clock.now += 10.5
    with pytest.raises(KeysUnavailable, match=f"key other is not in the present key set of {ISSUER}; try") as caught:
        await key_sets.key(ISSUER, "other")
    assert caught.value.retry_after == math.ceil(30 - 10.5)
    clock.now = 1000 + 30
    with pytest.raises(NotAuthentic, match=f"the key set of {ISSUER} has no key other"):
        await key_sets.key(ISSUER, "other")
    assert service.fetches == 2
    service.error = httpx.ConnectError("refused")
    clock.now += 3600
    await key_sets.key(ISSUER, KEY)
    assert service.fetches == 3
    (state,) = key_sets.states()
    assert state.failures == 1
    clock.now += 29.5
    await key_sets.key(ISSUER, KEY)
    assert service.fetches == 3
    clock.now += 0.5
    await key_sets.key(ISSUER, KEY)
    await asyncio.sleep(0)
    await key_sets.aclose()
    assert service.fetches == 4


async def test_a_set_that_serves_at_its_hard_limit_no_longer_serves_after_it(
    client: Any, service: Any, clock: Any
) -> None:
    key_sets = KeySets(client, limits=KeySetLimits(), clock=clock, sleep=asyncio.sleep, jitter=lambda: 0.5)
    await key_sets.key(ISSUER, KEY)
    service.error = httpx.ConnectError("refused")
    clock.now = 1000 + 86400
    assert await key_sets.key(ISSUER, KEY)
    clock.now = 1000 + 86400.5
    with pytest.raises(KeysUnavailable, match=f"^no usable key set of {ISSUER}: {ISSUER}/.*ConnectError: refused; try"):
        await key_sets.key(ISSUER, KEY)


async def test_remembered_absent_ids_are_bounded_and_forgotten_with_the_set(
    client: Any, service: Any, clock: Any
) -> None:
    limits = dataclasses.replace(KeySetLimits(), absent_ids=1)
    key_sets = KeySets(client, limits=limits, clock=clock, sleep=asyncio.sleep, jitter=lambda: 0.5)
    with pytest.raises(NotAuthentic):
        await key_sets.key(ISSUER, "first")
    for _ in range(2):
        with pytest.raises(NotAuthentic):
            await key_sets.key(ISSUER, "first")
        with pytest.raises(KeysUnavailable):
            await key_sets.key(ISSUER, "second")
    assert service.fetches == 1
    clock.now += 30
    with pytest.raises(NotAuthentic):
        await key_sets.key(ISSUER, "second")
    with pytest.raises(KeysUnavailable):
        await key_sets.key(ISSUER, "first")
    assert service.fetches == 2


def test_a_key_is_fetched_with_the_modules_own_exponent() -> None:
    assert published_keys._RSA_EXPONENT == 65537
