"""The checks of a token that OIDC and PKI share: for whom, by whom, for which request, when, and the signature.

PyJWT judges the signature, through its RS256 algorithm object and on the bytes that the strict parser took apart. Its
`decode` would parse the token a second time and less strictly (it takes duplicate members, a string for a time, any
`typ`, and compares times with its own clock), at the price of 8 to 9 raw RS256 verifications; all of this costs 3 to 4.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from mcbn_broker.attestation.errors import NotAuthentic, TokenCheck
from mcbn_broker.attestation.printable import printable
from mcbn_broker.attestation.strict_jws import UnverifiedToken
from mcbn_protocol.limits import TIME_MAX

_LIFETIME_SECONDS_MAX: Final = 2 * 3600  # the service's tokens live one hour; whatever lives for days is something else
_RS256: Final = RSAAlgorithm(RSAAlgorithm.SHA256)


def check_audience(unverified_claims: Mapping[str, Any], audience: str) -> None:
    """Require `aud` to be exactly this string.

    Raises:
        NotAuthentic: `token.audience`.
    """
    found = unverified_claims.get("aud")
    if found != audience:
        raise NotAuthentic(TokenCheck.AUDIENCE, f"aud is {printable(found)}, not {printable(audience)}")


def issuer_of(unverified_claims: Mapping[str, Any], issuers: Collection[str]) -> str:
    """Return `iss`, which must be one of these.

    Raises:
        NotAuthentic: `token.issuer`.
    """
    found = unverified_claims.get("iss")
    if not isinstance(found, str) or found not in issuers:
        raise NotAuthentic(TokenCheck.ISSUER, f"iss is {printable(found)}, not one of {printable(sorted(issuers))}")
    return found


def check_nonces(unverified_claims: Mapping[str, Any], nonces: tuple[str, ...]) -> None:
    """Require exactly these nonces, in any order. A single nonce is a string in the token, several are a list.

    Raises:
        NotAuthentic: `token.nonces`.
    """
    claim = unverified_claims.get("eat_nonce")
    found = [claim] if isinstance(claim, str) else claim
    if not isinstance(found, list) or not found or not all(isinstance(nonce, str) for nonce in found):
        raise NotAuthentic(TokenCheck.NONCES, f"eat_nonce is {printable(claim)}")
    if sorted(found) != sorted(nonces):
        raise NotAuthentic(TokenCheck.NONCES, f"eat_nonce is {printable(claim)}, not exactly the challenge and binding")


def check_signature(unverified: UnverifiedToken, key: RSAPublicKey) -> None:
    """Require the RS256 signature to verify under a key that is trusted already.

    Raises:
        NotAuthentic: `token.signature`.
    """
    try:
        weakness = _RS256.check_key_length(_RS256.prepare_key(key))
        genuine = not weakness and _RS256.verify(unverified.signing_input, key, unverified.signature)
    except (jwt.PyJWTError, ValueError, TypeError) as error:  # InvalidKeyError is no InvalidTokenError: take the root
        raise NotAuthentic(TokenCheck.SIGNATURE, f"it cannot be judged: {type(error).__name__}") from error
    if not genuine:
        raise NotAuthentic(TokenCheck.SIGNATURE, weakness or f"it does not verify under key {unverified.key_id}")


def check_times(claims: Mapping[str, Any], *, now: int, maximum_age_seconds: int, leeway_seconds: int) -> None:
    """Check `iat`, `nbf` and `exp` (RFC 7519 section 4.1.4 to 4.1.6), all three required, and our own maximum age.

    Args:
        claims: The token's claims.
        now: The decision's reference time, Unix seconds.
        maximum_age_seconds: Tokens issued longer ago are refused, whatever their `exp` says.
        leeway_seconds: How far the clocks of broker and attestation service may be apart.

    Raises:
        NotAuthentic: `token.times`, `token.not_yet_valid`, `token.expired` or `token.age`.
    """
    issued, expires, not_before = (_time(claims, name) for name in ("iat", "exp", "nbf"))
    if not 0 < expires - issued <= _LIFETIME_SECONDS_MAX:
        raise NotAuthentic(TokenCheck.TIMES, f"exp - iat is {expires - issued} s")
    if max(issued, not_before) > now + leeway_seconds:
        raise NotAuthentic(TokenCheck.NOT_YET_VALID, f"iat {issued}, nbf {not_before}, now {now}: compare clocks")
    if expires <= now - leeway_seconds:
        raise NotAuthentic(TokenCheck.EXPIRED, f"exp {expires}, now {now}: compare clocks")
    if now - issued > maximum_age_seconds:
        raise NotAuthentic(TokenCheck.AGE, f"issued {now - issued} s ago, at most {maximum_age_seconds} s")


def _time(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 < value <= TIME_MAX:
        raise NotAuthentic(TokenCheck.TIMES, f"{name} must be whole Unix seconds, not {printable(value)}")
    return value
