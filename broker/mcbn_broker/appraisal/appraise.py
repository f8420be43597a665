"""Appraises an attestation result: every check, against every reference value of the role."""

from mcbn_broker.appraisal.accounting import unknown_claims
from mcbn_broker.appraisal.checks import CHECKS
from mcbn_broker.appraisal.findings import Claims
from mcbn_broker.appraisal.policy import Policy
from mcbn_broker.appraisal.policy_checks import (
    CONTAINER_CLAIMS_NAME,
    CONTAINER_CLAIMS_WHY,
    LIMIT_CHECKS,
    container_claims,
)
from mcbn_broker.appraisal.verdict import CheckResult, Verdict
from mcbn_broker.attestation.result import AttestationResult
from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import ConfidentialSpaceReference


def appraise(
    result: AttestationResult,
    references: tuple[ConfidentialSpaceReference, ...],
    policy: Policy,
    *,
    role: Role,
    now: int,
) -> Verdict:
    """Compare authentic claims with what was agreed. Whatever the claims are, it returns a verdict.

    Args:
        result: The verified token.
        references: The role's reference values in the manifest. One that passes every check is enough.
        policy: The participant's own limits, which hold whichever reference value passes.
        role: The role that the workload asks for.
        now: The decision's reference time, Unix seconds.

    Returns:
        The first verdict that passed; else the one with the fewest failures.
    """
    claims = Claims(result.claims)
    own = _own_checks(claims, policy, role, now)
    unknown = unknown_claims(result.claims)
    verdicts = [
        Verdict((*_agreed_checks(claims, reference), *own), index, unknown)
        for index, reference in enumerate(references)
    ]
    return min(verdicts, key=lambda verdict: len(verdict.failures), default=Verdict((), None, unknown))


def _agreed_checks(claims: Claims, reference: ConfidentialSpaceReference) -> tuple[CheckResult, ...]:
    return tuple(CheckResult(check.name, check.judge(claims, reference), check.why) for check in CHECKS)


def _own_checks(claims: Claims, policy: Policy, role: Role, now: int) -> tuple[CheckResult, ...]:
    limits = policy.limits(role)
    return (
        CheckResult(CONTAINER_CLAIMS_NAME, container_claims(claims, policy), CONTAINER_CLAIMS_WHY),
        *(CheckResult(check.name, check.judge(claims, limits, now), check.why) for check in LIMIT_CHECKS),
    )
