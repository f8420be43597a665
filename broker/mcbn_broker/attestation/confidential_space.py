"""Verifies a Confidential Space token: who signed it, for whom, for which request, and when.

The order matters. What costs nothing comes first, and the token's own words about audience, issuer and nonces are
compared before any key is fetched or any certificate is looked at, so that only a token made for a challenge of this
broker can make it work or talk to others.

There are two types of token, told apart by `x5c` alone, and which of them an issuer may use is the manifest's word.
An OIDC token is judged by the issuer's published key set; its header cannot hold certificates. A PKI token is judged
by the chain in its header, which must end at a root that the manifest pins; no key set is asked and nothing is fetched.
"""

from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.certificate_chain import certificates, leaf_key
from mcbn_broker.attestation.result import AttestationResult
from mcbn_broker.attestation.strict_jws import OIDC, PKI, JwsProfile, UnverifiedToken, parse
from mcbn_broker.attestation.token_checks import (
    check_audience,
    check_nonces,
    check_signature,
    check_times,
    issuer_of,
)
from mcbn_protocol.reference_values import EvidenceKind

MAXIMUM_AGE_SECONDS: Final = 300
"""How old a token may be. It lives an hour, but a workload asks for one when it needs it."""

LEEWAY_SECONDS: Final = 60
"""How far the clocks of broker and attestation service may be apart."""


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
    """Verifies OIDC and PKI tokens of Confidential Space (a `Verifier`).

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
        anchors: TrustAnchors,
        audience: str,
        nonces: tuple[str, ...],
        now: int,
    ) -> AttestationResult:
        """Verify a token; see `Verifier.verify` for arguments and errors."""
        unverified = parse(unverified_token, profiles=_accepted(anchors))
        check_audience(unverified.claims, audience)
        issuer = issuer_of(unverified.claims, anchors.roots if unverified.profile is PKI else anchors.issuers)
        check_nonces(unverified.claims, nonces)
        key, root = await self._key(unverified, issuer, anchors, now)
        check_signature(unverified, key)
        claims = unverified.claims  # signed from here on
        check_times(claims, now=now, maximum_age_seconds=self._maximum_age, leeway_seconds=self._leeway)
        return AttestationResult(EvidenceKind.CONFIDENTIAL_SPACE, issuer, root, claims)

    async def _key(
        self, unverified: UnverifiedToken, issuer: str, anchors: TrustAnchors, now: int
    ) -> tuple[RSAPublicKey, bytes | None]:
        """The key that must have signed, and the pinned root that vouches for it, if one does."""
        if unverified.profile is not PKI:
            return await self._keys.key(issuer, unverified.key_id), None
        chain = certificates(unverified.header)
        return leaf_key(chain, roots=anchors.roots[issuer], now=now), chain.root_hash


def _accepted(anchors: TrustAnchors) -> tuple[JwsProfile, ...]:
    """The types of token that the anchors can judge."""
    return tuple(profile for profile, named in ((OIDC, anchors.issuers), (PKI, anchors.roots)) if named)
