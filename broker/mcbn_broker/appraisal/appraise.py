"""Appraises an attestation result: every check, against every reference value of the role."""

from typing import Final

from mcbn_broker.appraisal.accounting import unknown_claims
from mcbn_broker.appraisal.checks import CHECKS, TRUST_ANCHOR_NAME, TRUST_ANCHOR_WHY, trust_anchor
from mcbn_broker.appraisal.conditions import CONDITION_WHY
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

CONDITION_PREFIX: Final = "policy.condition."
"""Before the number of a participant's condition, from 1, in the names of their checks."""


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
    own = (*_own_checks(claims, policy, role, now), *_conditions(result, policy, role))
    unknown = unknown_claims(result.claims)
    verdicts = [
        Verdict((_anchor_check(result, reference), *_agreed_checks(claims, reference), *own), index, unknown)
        for index, reference in enumerate(references)
    ]
    return min(verdicts, key=lambda verdict: len(verdict.failures), default=Verdict((), None, unknown))


def _anchor_check(result: AttestationResult, reference: ConfidentialSpaceReference) -> CheckResult:
    return CheckResult(TRUST_ANCHOR_NAME, trust_anchor(result.root, reference), TRUST_ANCHOR_WHY)


def _agreed_checks(claims: Claims, reference: ConfidentialSpaceReference) -> tuple[CheckResult, ...]:
    return tuple(CheckResult(check.name, check.judge(claims, reference), check.why) for check in CHECKS)


def _conditions(result: AttestationResult, policy: Policy, role: Role) -> tuple[CheckResult, ...]:
    return tuple(
        CheckResult(f"{CONDITION_PREFIX}{number}", condition.judge(result.claims), CONDITION_WHY)
        for number, condition in enumerate(policy.limits(role).conditions, start=1)
    )


def _own_checks(claims: Claims, policy: Policy, role: Role, now: int) -> tuple[CheckResult, ...]:
    limits = policy.limits(role)
    return (
        CheckResult(CONTAINER_CLAIMS_NAME, container_claims(claims, policy), CONTAINER_CLAIMS_WHY),
        *(CheckResult(check.name, check.judge(claims, limits, now), check.why) for check in LIMIT_CHECKS),
    )
