"""Whole tokens of both types, as a broker verifies them: raw, and signed by the attestation service's own key."""

import base64
import hashlib
from typing import Any

from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.confidential_space import ConfidentialSpaceVerifier
from mcbn_broker.attestation.errors import NotAuthentic
from tests.fuzz.keys import chain, jws, rsa_key
from tests.fuzz.material import NOW, compact, json_object, run
from tests.fuzz.tokens import (
    AUDIENCE,
    CLAIM_WORDS,
    ISSUER,
    KEY_ID,
    NONCES,
    PublishedKeys,
    assert_for_this_request,
    claims,
)

JSON = True
WORDS = (*CLAIM_WORDS, b"header", b"claims", b"x5c", b"kid", b"typ", b"JWT", b"jku", b"jwk", b"x5u", b"crit", b"b64")
MAX_BYTES = 24 * 1024
ANCHORS = TrustAnchors(frozenset({ISSUER}), {ISSUER: frozenset({hashlib.sha256(chain()[2]).digest()})})
VERIFIER = ConfidentialSpaceVerifier(PublishedKeys(), maximum_age_seconds=300, leeway_seconds=60)
HEADER = {"alg": "RS256", "kid": KEY_ID, "typ": "JWT"}
X5C = [base64.b64encode(one).decode("ascii") for one in chain()]
GENUINE = {jws(compact(one), compact(claims()), rsa_key(1)) for one in (HEADER, HEADER | {"x5c": X5C})}


def seeds() -> list[bytes]:
    told = [{"header": header, "claims": claims()} for header in (HEADER, HEADER | {"x5c": X5C})]
    return [*(one.encode() for one in GENUINE), *map(compact, told)]


def target(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    if verified(text) is not None:
        assert text in GENUINE, "the attestation service never signed it"
    told = json_object(data)
    if told is not None:
        judge(told)


def judge(told: dict[str, Any]) -> None:
    said = verified(jws(compact(told.get("header")), compact(told.get("claims")), rsa_key(1)))
    if said is not None:
        assert_for_this_request(said)
        header: Any = told["header"]
        assert (header["alg"], header["kid"]) == ("RS256", KEY_ID) or header["x5c"] == X5C


def verified(token: str) -> Any:
    """The claims of a token that is taken, else None."""
    try:
        result = run(VERIFIER.verify(token, anchors=ANCHORS, audience=AUDIENCE, nonces=NONCES, now=NOW))
    except NotAuthentic:
        return None
    assert result.root is None or result.root in ANCHORS.roots[ISSUER]
    return result.claims
