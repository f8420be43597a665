"""Takes a compact JWS (RFC 7515 section 7.1) apart, strictly and once. It verifies nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcbn_broker.attestation.errors import NotAuthentic, TokenCheck
from mcbn_broker.attestation.printable import printable
from mcbn_broker.attestation.strict_json import NotStrictJsonError, parse_object
from mcbn_protocol.encoding import b64u_decode
from mcbn_protocol.errors import MalformedError

ALGORITHM: Final = "RS256"
KEY_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
CHAIN: Final = "x5c"  # RFC 7515 section 4.1.6: the signer's certificates
_KEYS_IN_HEADER: Final = frozenset({"jku", "x5u", "jwk"})  # RFC 7515 section 4.1: a token names its own judge
_EXTENSIONS: Final = frozenset({"crit", "b64"})  # RFC 7515 section 4.1.11, RFC 7797: none is understood here
_SEGMENTS: Final = 3


@dataclass(frozen=True)
class JwsProfile:
    """What is accepted of one type of token.

    Attributes:
        name: For error texts.
        maximum_chars: Longer tokens are refused before their claims are read.
        has_chain: Whether the header has `x5c`. Each type of token has it always or never, so it tells them apart.
    """

    name: str
    maximum_chars: int
    has_chain: bool


OIDC: Final = JwsProfile("OIDC", maximum_chars=16 * 1024, has_chain=False)
"""Tokens verified by the issuer's published key set. A chain in the header belongs to another type of token."""

PKI: Final = JwsProfile("PKI", maximum_chars=32 * 1024, has_chain=True)
"""Tokens verified by a pinned root; a real one has over 11,000 characters, most of them certificates."""


@dataclass(frozen=True)
class UnverifiedToken:
    """The parts of a token whose form is right. Anybody may have written them.

    Attributes:
        profile: The type of token that it is.
        key_id: Which key is said to have signed, 1 to 128 of `A-Z a-z 0-9 _ -`.
        header: All of the header's members.
        claims: The payload's members.
        signing_input: The ASCII bytes under the signature (RFC 7515 section 5.1).
        signature: The signature's bytes.
    """

    profile: JwsProfile
    key_id: str
    header: Mapping[str, Any] = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False)
    signing_input: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def parse(unverified_token: str, *, profiles: tuple[JwsProfile, ...]) -> UnverifiedToken:
    """Take a compact JWS apart.

    Args:
        unverified_token: As the workload sent it.
        profiles: The types of token that are accepted; without any, no token is.

    Raises:
        NotAuthentic: `token.size`, `token.form`, `token.algorithm` or `token.header`.
    """
    _check_size(unverified_token, max((profile.maximum_chars for profile in profiles), default=0))
    segments = unverified_token.split(".", _SEGMENTS)
    if len(segments) != _SEGMENTS:
        raise NotAuthentic(TokenCheck.FORM, "a compact JWS has exactly three segments")
    raw_header, raw_claims, signature = (
        _decoded(segment, name) for segment, name in zip(segments, ("header", "payload", "signature"), strict=True)
    )
    header = _object(raw_header, "header")
    key_id = _checked_header(header)
    profile = _profile(header, profiles)
    _check_size(unverified_token, profile.maximum_chars)
    claims = _object(raw_claims, "payload")
    signing_input = unverified_token[: -len(segments[-1]) - 1].encode("ascii")
    return UnverifiedToken(profile, key_id, header, claims, signing_input, signature)


def _check_size(unverified_token: str, maximum_chars: int) -> None:
    if len(unverified_token) > maximum_chars:
        raise NotAuthentic(TokenCheck.SIZE, f"{len(unverified_token)} characters, at most {maximum_chars}")


def _profile(header: Mapping[str, Any], profiles: tuple[JwsProfile, ...]) -> JwsProfile:
    for profile in profiles:
        if profile.has_chain is (CHAIN in header):
            return profile
    has, accepted = "has" if CHAIN in header else "has no", " or ".join(profile.name for profile in profiles)
    raise NotAuthentic(TokenCheck.HEADER, f"it {has} {CHAIN}, but only {accepted} tokens are accepted here")


def _decoded(segment: str, name: str) -> bytes:
    try:
        raw = b64u_decode(segment)
    except MalformedError as error:
        raise NotAuthentic(TokenCheck.FORM, f"{name}: {error}") from error
    if not raw:
        raise NotAuthentic(TokenCheck.FORM, f"{name}: empty")
    return raw


def _object(raw: bytes, name: str) -> dict[str, Any]:
    try:
        return parse_object(raw)
    except NotStrictJsonError as error:
        raise NotAuthentic(TokenCheck.FORM, f"{name}: {error}") from error


def _checked_header(header: Mapping[str, Any]) -> str:
    """The key id. Members that are neither needed nor refused are ignored (RFC 7515 section 4)."""
    algorithm = header.get("alg")
    if algorithm != ALGORITHM:
        raise NotAuthentic(TokenCheck.ALGORITHM, f"alg must be {ALGORITHM}, not {printable(algorithm)}")
    refused = sorted((_KEYS_IN_HEADER | _EXTENSIONS) & header.keys())
    if refused:
        raise NotAuthentic(TokenCheck.HEADER, f"a token must not have {', '.join(refused)}")
    if header.get("typ", "JWT") != "JWT":
        raise NotAuthentic(TokenCheck.HEADER, f"typ must be JWT or absent, not {printable(header['typ'])}")
    key_id = header.get("kid")
    if not isinstance(key_id, str) or not KEY_ID.fullmatch(key_id):
        raise NotAuthentic(TokenCheck.HEADER, f"kid must match {KEY_ID.pattern}, not {printable(key_id)}")
    return key_id
