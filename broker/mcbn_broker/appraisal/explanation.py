"""Explains one token to a person: every check with its verdict, by the code with which the broker judges requests.

Offline: keys come from a root certificate or a key-set file, times are compared with a time that the person names. What
nobody gave is not compared, and says so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mcbn_broker.appraisal.appraise import appraise
from mcbn_broker.appraisal.findings import described
from mcbn_broker.appraisal.policy import Policy
from mcbn_broker.appraisal.verdict import Verdict
from mcbn_broker.attestation.certificate_chain import certificates, leaf_key
from mcbn_broker.attestation.confidential_space import LEEWAY_SECONDS, MAXIMUM_AGE_SECONDS
from mcbn_broker.attestation.errors import NotAuthentic, TokenCheck
from mcbn_broker.attestation.result import AttestationResult
from mcbn_broker.attestation.strict_jws import OIDC, PKI, UnverifiedToken, parse
from mcbn_broker.attestation.token_checks import (
    check_audience,
    check_nonces,
    check_signature,
    check_times,
    issuer_of,
)
from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import (
    DBGSTAT_PRODUCTION,
    PRODUCTION_ISSUER,
    ConfidentialSpaceReference,
    EvidenceKind,
    SupportAttribute,
)


class Outcome(StrEnum):
    """What came of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class Line:
    """One check of one token, in words.

    Attributes:
        check: Its name, as in refusals and the audit.
        outcome: What came of it.
        expected: What it asks for.
        found: What the token says.
        why: Why it matters.
    """

    check: str
    outcome: Outcome
    expected: str
    found: str
    why: str


@dataclass(frozen=True)
class Given:
    """What a person gave besides the token.

    Attributes:
        at: The time to judge by, Unix seconds.
        audience: What `aud` must be, or None.
        nonces: What `eat_nonce` must be exactly, or None.
        roots: SHA-256 of pinned root certificates, for PKI tokens; empty without.
        keys: An issuer's key set, for OIDC tokens; None without.
        references: The role's reference values; empty for the baseline.
        policy: The participant's own.
        role: Whose limits in the policy count.
    """

    at: int
    audience: str | None
    nonces: tuple[str, ...] | None
    roots: frozenset[bytes]
    keys: Mapping[str, RSAPublicKey] | None
    references: tuple[ConfidentialSpaceReference, ...]
    policy: Policy
    role: Role


@dataclass(frozen=True)
class Explanation:
    """Every check, most dangerous first.

    Attributes:
        lines: The checks.
        reference: Which of the reference values (from 0) fits best; None for the baseline.
        unknown_claims: Claims that this program has no opinion on.
        claims: The token's claims; empty where its form is wrong. They are authentic only if `authentic`.
        authentic: Whether the signature was verified.
    """

    lines: tuple[Line, ...]
    reference: int | None
    unknown_claims: tuple[str, ...]
    claims: Mapping[str, Any]
    authentic: bool

    @property
    def failed(self) -> bool:
        """Whether any check failed."""
        return any(line.outcome is Outcome.FAILED for line in self.lines)


_AGREED: Final = frozenset(
    {"trust_anchor", "image_digest", "image_signatures", "args", "env", "project_number", "instance_id"}
    | {"service_accounts", "restart_policy", "monitoring_memory"}
)
"""Checks whose expected value only participants can agree on: without a manifest they are not compared."""

_FORM_WHY: Final = "Two readers of a sloppy form may read two different tokens."
_WHYS: Final = {
    TokenCheck.AUDIENCE: "A token for another relying party must not be replayed here.",
    TokenCheck.ISSUER: "Anyone can sign tokens; only the agreed attestation service counts.",
    TokenCheck.NONCES: "The nonces bind the token to one request and to one key inside the TEE.",
    TokenCheck.CHAIN: "The certificates must end at the pinned root, each fit for its place.",
    TokenCheck.KEY: "The key must be in the issuer's published key set.",
    TokenCheck.SIGNATURE: "Without it, all claims are just words.",
    TokenCheck.TIMES: "Old evidence says nothing about the machine now.",
}


def explain(unverified_token: str, given: Given) -> Explanation:
    """Judge a token and say why. Whatever the token is, it returns."""
    try:
        unverified = parse(unverified_token, profiles=(OIDC, PKI))
    except NotAuthentic as error:
        line = Line(error.check.value, Outcome.FAILED, "a strict compact JWS, RS256", error.detail, _FORM_WHY)
        return Explanation((line,), None, (), {}, authentic=False)
    form = Line(
        "token.form", Outcome.PASSED, "a strict compact JWS, RS256", f"{unverified.profile.name} token", _FORM_WHY
    )
    token_lines = [form, *_token_lines(unverified, given)]
    authentic = any(line.check == TokenCheck.SIGNATURE.value and line.outcome is Outcome.PASSED for line in token_lines)
    verdict = _verdict(unverified, given)
    return Explanation(
        (*token_lines, *_verdict_lines(verdict, baseline=not given.references)),
        verdict.reference if given.references else None,
        verdict.unknown_claims,
        unverified.claims,
        authentic,
    )


def _token_lines(unverified: UnverifiedToken, given: Given) -> list[Line]:
    claims = unverified.claims
    issuers = {one.issuer for one in given.references} or {PRODUCTION_ISSUER}
    return [
        _judged(
            TokenCheck.AUDIENCE, given.audience, claims.get("aud"), lambda value: check_audience(claims, value)
        ),
        _judged(TokenCheck.ISSUER, sorted(issuers), claims.get("iss"), lambda value: issuer_of(claims, value)),
        _judged(TokenCheck.NONCES, given.nonces, claims.get("eat_nonce"), lambda value: check_nonces(claims, value)),
        *_signature_lines(unverified, given),
        _judged(
            TokenCheck.TIMES, f"valid at {given.at}, at most {MAXIMUM_AGE_SECONDS} s old",
            {name: claims.get(name) for name in ("iat", "nbf", "exp")},
            lambda _value: check_times(
                claims, now=given.at, maximum_age_seconds=MAXIMUM_AGE_SECONDS, leeway_seconds=LEEWAY_SECONDS
            ),
        ),
    ]  # fmt: skip


def _signature_lines(unverified: UnverifiedToken, given: Given) -> list[Line]:
    """The key first, then the signature under it."""
    if unverified.profile is PKI:
        check, there = TokenCheck.CHAIN, bool(given.roots)
        expected = f"a chain to root {', '.join(sorted(root.hex() for root in given.roots))}"
        missing, found = "no --root was given", "the certificates of x5c"
    else:
        check, there = TokenCheck.KEY, given.keys is not None
        expected, missing, found = "a key of the set", "no --jwks was given", f"kid {unverified.key_id}"
    if not there:
        nothing = Line(check.value, Outcome.NOT_COMPARED, missing, found, _WHYS[check])
        return [
            nothing,
            Line(TokenCheck.SIGNATURE.value, Outcome.NOT_COMPARED, missing, "", _WHYS[TokenCheck.SIGNATURE]),
        ]
    try:
        key = _key(unverified, given)
    except NotAuthentic as error:
        return [Line(check.value, Outcome.FAILED, expected, error.detail, _WHYS[check])]
    vouched = Line(check.value, Outcome.PASSED, expected, found, _WHYS[check])
    return [vouched, _judged(TokenCheck.SIGNATURE, "RS256", "", lambda _value: check_signature(unverified, key))]


def _key(unverified: UnverifiedToken, given: Given) -> RSAPublicKey:
    if unverified.profile is PKI:
        return leaf_key(certificates(unverified.header), roots=given.roots, now=given.at)
    keys = given.keys or {}
    if unverified.key_id not in keys:
        raise NotAuthentic(TokenCheck.KEY, f"the set has no key {described(unverified.key_id)}")
    return keys[unverified.key_id]


def _judged(check: TokenCheck, expected: Any, found: object, judge: Callable[[Any], object]) -> Line:
    """Run one check of attestation; None stands for an expectation that nobody gave."""
    words = described(found) if found != "" else ""
    if expected is None:
        return Line(check.value, Outcome.NOT_COMPARED, "not given", words, _WHYS[check])
    text = expected if isinstance(expected, str) else described(list(expected))
    try:
        judge(expected)
    except NotAuthentic as error:
        return Line(error.check.value, Outcome.FAILED, text, error.detail, _WHYS[check])
    return Line(check.value, Outcome.PASSED, text, words, _WHYS[check])


def _verdict(unverified: UnverifiedToken, given: Given) -> Verdict:
    issuer = unverified.claims.get("iss")
    root = certificates_root(unverified)
    result = AttestationResult(
        EvidenceKind.CONFIDENTIAL_SPACE, issuer if isinstance(issuer, str) else "", root, unverified.claims
    )
    references = given.references or (_BASELINE,)
    return appraise(result, references, given.policy, role=given.role, now=given.at)


def certificates_root(unverified: UnverifiedToken) -> bytes | None:
    """Return the hash of the root that a PKI token brings along; None for an OIDC token or a chain of another form."""
    if unverified.profile is not PKI:
        return None
    try:
        return certificates(unverified.header).root_hash
    except NotAuthentic:
        return None


def _verdict_lines(verdict: Verdict, *, baseline: bool) -> list[Line]:
    lines = []
    for check in verdict.checks:
        outcome = Outcome.PASSED if check.passed else Outcome.FAILED
        expected = check.expected
        if baseline and check.name in _AGREED:
            outcome, expected = Outcome.NOT_COMPARED, "what the participants agree on: give --manifest"
        lines.append(Line(check.name, outcome, expected, check.found, check.why))
    return lines


_BASELINE: Final = ConfidentialSpaceReference(
    issuer=PRODUCTION_ISSUER,
    root=None,
    image_digests=("sha256:" + "0" * 64,),
    image_signatures=None,
    hwmodels=("GCP_AMD_SEV", "GCP_AMD_SEV_ES", "GCP_INTEL_TDX"),
    dbgstat=DBGSTAT_PRODUCTION,
    support_attribute=SupportAttribute.STABLE,
    args=(),
    env={},
    env_override={},
    restart_policies=(),
    monitoring_memory=False,
    project_numbers=(),
    instance_ids=None,
    service_accounts=None,
    insecure_debug=False,
)
"""What any participant should ask for, whatever else was agreed. Of the rest (`_AGREED`) it says nothing."""
