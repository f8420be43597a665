"""An issuer's published key set: discovery (OpenID Connect Discovery 1.0 section 4) and the JWK Set (RFC 7517)."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from mcbn_broker.attestation.fetching import DocumentError, fetch
from mcbn_broker.attestation.printable import printable
from mcbn_broker.attestation.strict_jws import ALGORITHM, KEY_ID
from mcbn_protocol.encoding import b64u_decode
from mcbn_protocol.errors import MalformedError
from mcbn_protocol.limits import TEXT_CHARS

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
KEYS_MAX: Final = 32  # Google publishes two
RSA_BITS: Final = range(2048, 8192 + 1)  # NIST SP 800-131A below, the cost of a verification above
_RSA_EXPONENT: Final = 65537


@dataclass(frozen=True)
class PublishedKeys:
    """One issuer's usable keys, as they were published at one time.

    Attributes:
        keys: By key id; never empty.
        maximum_age_seconds: How long the issuer lets the set be cached, or None if it does not say.
    """

    keys: Mapping[str, RSAPublicKey]
    maximum_age_seconds: int | None


async def fetch_published_keys(client: httpx.AsyncClient, issuer: str, *, deadline_seconds: float) -> PublishedKeys:
    """Fetch an issuer's discovery document, and then its key set, within one deadline.

    Raises:
        DocumentError: Either could not be had, or is not what it has to be.
    """
    try:
        async with asyncio.timeout(deadline_seconds):
            discovery = await fetch(client, issuer + DISCOVERY_PATH)
            document = await fetch(client, key_set_url(discovery.members, issuer))
    except TimeoutError as error:
        raise DocumentError(f"{issuer}: no key set within {deadline_seconds:g} s") from error
    return PublishedKeys(parse_key_set(document.members), document.maximum_age_seconds)


def key_set_url(discovery: Mapping[str, Any], issuer: str) -> str:
    """Return where a discovery document says that the key set is.

    It must be https. A simulated issuer, the only one that may have an http name, may keep the set at its own origin.

    Raises:
        DocumentError: The document speaks of another issuer, or names no such address.
    """
    if discovery.get("issuer") != issuer:
        raise DocumentError(f"discovery of {issuer} speaks of issuer {printable(discovery.get('issuer'))}")
    text = discovery.get("jwks_uri")
    try:
        if not isinstance(text, str) or len(text) > TEXT_CHARS:
            raise DocumentError(f"discovery of {issuer} has no usable jwks_uri")
        url, home = httpx.URL(text), httpx.URL(issuer)
        host = url.host  # decodes internationalised names, which may fail
        at_home = (url.scheme, host, url.port) == (home.scheme, home.host, home.port)
    except (httpx.InvalidURL, ValueError) as error:
        raise DocumentError(f"discovery of {issuer}: jwks_uri is no URL") from error
    if not host or url.userinfo or not (url.scheme == "https" or at_home):
        raise DocumentError(f"discovery of {issuer}: jwks_uri {printable(text)} must be https")
    return text


def parse_key_set(document: Mapping[str, Any]) -> Mapping[str, RSAPublicKey]:
    """Return the usable keys of a JWK Set: RSA of 2048 to 8192 bits, `use` sig, `alg` RS256 or absent.

    Keys of other kinds are left out (RFC 7517 section 5), but they count when ids are compared.

    Raises:
        DocumentError: No list of 1 to 32 keys, a key id twice, or no usable key.
    """
    entries = document.get("keys")
    if not isinstance(entries, list) or not 1 <= len(entries) <= KEYS_MAX:
        raise DocumentError(f"a key set has a list of 1 to {KEYS_MAX} keys")
    key_ids = [entry["kid"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("kid"), str)]
    if len(set(key_ids)) != len(key_ids):
        raise DocumentError("a key set has one key id twice, so it cannot be said which key is meant")
    parsed = {entry["kid"]: _usable_key(entry) for entry in entries if _is_candidate(entry)}
    usable = {key_id: key for key_id, key in parsed.items() if key is not None}
    if not usable:
        raise DocumentError("a key set has no usable key (RSA of 2048 bits or more, use sig, alg RS256)")
    return usable


def _is_candidate(entry: object) -> bool:
    if not isinstance(entry, dict):
        return False
    key_id = entry.get("kid")
    return (
        entry.get("kty") == "RSA"
        and entry.get("use") == "sig"
        and entry.get("alg", ALGORITHM) == ALGORITHM
        and isinstance(key_id, str)
        and KEY_ID.fullmatch(key_id) is not None
    )


def _usable_key(entry: Mapping[str, Any]) -> RSAPublicKey | None:
    try:
        modulus, exponent = _number(entry.get("n")), _number(entry.get("e"))
        if modulus.bit_length() not in RSA_BITS or modulus % 2 == 0 or exponent != _RSA_EXPONENT:
            return None
        return RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError:
        return None


def _number(value: object) -> int:
    """Base64urlUInt (RFC 7518 section 2)."""
    if not isinstance(value, str):
        raise ValueError("not a string")  # noqa: TRY004  # one kind of error for a key that is unusable
    try:
        return int.from_bytes(b64u_decode(value), "big")
    except MalformedError as error:
        raise ValueError("not base64url") from error
