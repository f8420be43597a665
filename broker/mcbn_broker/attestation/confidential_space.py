"""Verifies a Confidential Space OIDC token: who signed it, for whom, for which request, and when.

The order matters. What costs nothing comes first, and the token's own words about audience, issuer and nonces are
compared before any key is fetched, so that only a token made for a challenge of this broker can make it talk to others.

PyJWT judges the signature, through its RS256 algorithm object and on the bytes that the strict parser took apart. Its
`decode` would parse the token a second time and less strictly (it takes duplicate members, a string for a time, any
`typ`, and compares times with its own clock), at the price of 8 to 9 raw RS256 verifications; all of this costs 3 to 4.
"""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from mcbn_broker.attestation.errors import NotAuthentic, TokenCheck
from mcbn_broker.attestation.printable import printable
from mcbn_broker.attestation.result import AttestationResult
from mcbn_broker.attestation.strict_jws import OIDC, UnverifiedToken, parse
from mcbn_protocol.limits import TIME_MAX
from mcbn_protocol.reference_values import EvidenceKind

MAXIMUM_AGE_SECONDS: Final = 300
"""How old a token may be. It lives an hour, but a workload asks for one when it needs it."""

LEEWAY_SECONDS: Final = 60
"""How far the clocks of broker and attestation service may be apart."""

_LIFETIME_SECONDS_MAX: Final = 2 * 3600  # the service's tokens live one hour; whatever lives for days is something else
_RS256: Final = RSAAlgorithm(RSAAlgorithm.SHA256)


class KeySource(Protocol):
    """Where the attestation services' keys come from."""

    async def key(self, issuer: str, key_id: str) -> RSAPublicKey:
        """Return one key of an issuer's published set.

        Raises:
            NotAuthentic: The set has no such key.
            KeysUnavailable: There is no set, or the next look at it has to wait.
        """
        ...


class ConfidentialSpaceVerifier:
    """Verifies OIDC tokens of Confidential Space (a `Verifier`).

    Args:
        keys: Gives the issuers' keys.
        maximum_age_seconds: Tokens issued longer ago are refused, whatever their `exp` says.
        leeway_seconds: Tolerance for clocks that differ, in the broker's favour for `exp` and in the service's for
            `iat` and `nbf`.
    """

    def __init__(self, keys: KeySource, *, maximum_age_seconds: int, leeway_seconds: int) -> None:
        self._keys = keys
        self._maximum_age = maximum_age_seconds
        self._leeway = leeway_seconds

    async def verify(
        self,
        unverified_token: str,
        *,
        issuers: frozenset[str],
        audience: str,
        nonces: tuple[str, ...],
        now: int,
    ) -> AttestationResult:
        """Verify a token; see `Verifier.verify` for arguments and errors."""
        unverified = parse(unverified_token, profile=OIDC)
        _check_audience(unverified.claims, audience)
        issuer = _issuer(unverified.claims, issuers)
        _check_nonces(unverified.claims, nonces)
        _check_signature(unverified, await self._keys.key(issuer, unverified.key_id))
        claims = unverified.claims  # signed from here on
        self._check_times(claims, now)
        return AttestationResult(EvidenceKind.CONFIDENTIAL_SPACE, issuer, claims)

    def _check_times(self, claims: Mapping[str, Any], now: int) -> None:
        """RFC 7519 section 4.1.4 to 4.1.6, with all three claims required, and our own maximum age."""
        issued, expires, not_before = (_time(claims, name) for name in ("iat", "exp", "nbf"))
        if not 0 < expires - issued <= _LIFETIME_SECONDS_MAX:
            raise NotAuthentic(TokenCheck.TIMES, f"exp - iat is {expires - issued} s")
        if max(issued, not_before) > now + self._leeway:
            raise NotAuthentic(TokenCheck.NOT_YET_VALID, f"iat {issued}, nbf {not_before}, now {now}: compare clocks")
        if expires <= now - self._leeway:
            raise NotAuthentic(TokenCheck.EXPIRED, f"exp {expires}, now {now}: compare clocks")
        if now - issued > self._maximum_age:
            raise NotAuthentic(TokenCheck.AGE, f"issued {now - issued} s ago, at most {self._maximum_age} s")


def _check_audience(unverified_claims: Mapping[str, Any], audience: str) -> None:
    found = unverified_claims.get("aud")
    if not isinstance(found, str) or found != audience:
        raise NotAuthentic(TokenCheck.AUDIENCE, f"aud is {printable(found)}, not {printable(audience)}")


def _issuer(unverified_claims: Mapping[str, Any], issuers: frozenset[str]) -> str:
    found = unverified_claims.get("iss")
    if not isinstance(found, str) or found not in issuers:
        raise NotAuthentic(TokenCheck.ISSUER, f"iss is {printable(found)}, not one of {printable(sorted(issuers))}")
    return found


def _check_nonces(unverified_claims: Mapping[str, Any], nonces: tuple[str, ...]) -> None:
    """A single nonce is a string in the token, several are a list."""
    claim = unverified_claims.get("eat_nonce")
    found = [claim] if isinstance(claim, str) else claim
    if not isinstance(found, list) or not found or not all(isinstance(nonce, str) for nonce in found):
        raise NotAuthentic(TokenCheck.NONCES, f"eat_nonce is {printable(claim)}")
    if sorted(found) != sorted(nonces):
        raise NotAuthentic(TokenCheck.NONCES, f"eat_nonce is {printable(claim)}, not exactly the challenge and binding")


def _check_signature(unverified: UnverifiedToken, key: RSAPublicKey) -> None:
    try:
        weakness = _RS256.check_key_length(_RS256.prepare_key(key))
        genuine = not weakness and _RS256.verify(unverified.signing_input, key, unverified.signature)
    except (jwt.PyJWTError, ValueError, TypeError) as error:  # InvalidKeyError is no InvalidTokenError: take the root
        raise NotAuthentic(TokenCheck.SIGNATURE, f"it cannot be judged: {type(error).__name__}") from error
    if not genuine:
        raise NotAuthentic(TokenCheck.SIGNATURE, weakness or f"it does not verify under key {unverified.key_id}")


def _time(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 < value <= TIME_MAX:
        raise NotAuthentic(TokenCheck.TIMES, f"{name} must be whole Unix seconds, not {printable(value)}")
    return value
