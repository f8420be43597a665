"""Compact JWS, taken apart before anything is known of it; and `policy explain`, which a person gives any token to."""

from contextlib import suppress

from mcbn_broker.appraisal import Policy
from mcbn_broker.appraisal.explanation import Given, explain
from mcbn_broker.attestation.errors import NotAuthentic
from mcbn_broker.attestation.strict_jws import OIDC, PKI, parse
from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.identifiers import Role
from tests.fuzz.keys import jws, rsa_key
from tests.fuzz.material import NOW, compact
from tests.fuzz.tokens import AUDIENCE, KEY_ID, NONCES, claims, reference

GIVEN = Given(
    NOW, AUDIENCE, NONCES, frozenset(), {KEY_ID: rsa_key(1).public_key()}, (reference(),), Policy(), Role.CLIENT
)
WORDS = (b"eyJhbGciOiJSUzI1NiIs", b"..", b".", b"e30", b"bnVsbA", b"W10", b"=", b"ImEi")


def seeds() -> list[bytes]:
    header = {"alg": "RS256", "kid": KEY_ID, "typ": "JWT"}
    headers = [header, header | {"x5c": ["AA=="]}, header | {"jku": "https://x"}, header | {"crit": ["b64"]}]
    return [jws(compact(one), compact(claims()), rsa_key(1)).encode() for one in headers] + [b"e30.e30.e30"]


def target(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(NotAuthentic):
        parts = parse(text, profiles=(OIDC, PKI))
        assert f"{parts.signing_input.decode('ascii')}.{b64u_encode(parts.signature)}" == text
        assert parts.header["kid"] == parts.key_id
    explanation = explain(text, GIVEN)
    assert all(line.expected.isprintable() and line.found.isprintable() for line in explanation.lines)
