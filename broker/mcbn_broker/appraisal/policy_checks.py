"""The checks that a participant's own policy adds: each passes where the policy has no limit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mcbn_broker.appraisal.accounting import CONTAINER_CLAIMS
from mcbn_broker.appraisal.findings import Claims, Finding, described, one_of, strings
from mcbn_broker.appraisal.policy import Limits, Policy

_UNLIMITED: Final = Finding(passed=True, expected="any", found="not compared: the policy has no such limit")


@dataclass(frozen=True)
class LimitCheck:
    """One limit that a policy may set.

    Attributes:
        name: Stable, unique; `policy.` and what is limited.
        claims: The paths that it reads.
        why: Why it matters, in one sentence.
        judge: Compares claims, limits and the decision's time (Unix seconds). It is total.
    """

    name: str
    claims: tuple[str, ...]
    why: str
    judge: Callable[[Claims, Limits, int], Finding]


def _allowed(claims: Claims, path: str, allowed: frozenset[str] | None) -> Finding:
    return _UNLIMITED if allowed is None else one_of(claims.at(path), allowed)


def _service_accounts(claims: Claims, limits: Limits, _now: int) -> Finding:
    if limits.service_accounts is None:
        return _UNLIMITED
    found = claims.at("google_service_accounts")
    accounts = strings(found)
    return Finding(
        bool(accounts) and limits.service_accounts.issuperset(accounts or ()),
        f"only {described(sorted(limits.service_accounts))}",
        described(found),
    )


def _token_age(claims: Claims, limits: Limits, now: int) -> Finding:
    issued, most = claims.at("iat"), limits.maximum_token_age_seconds
    if most is None:
        return _UNLIMITED
    expected = f"issued at most {most} s ago"
    if type(issued) is not int:
        return Finding(False, expected, described(issued))
    return Finding(now - issued <= most, expected, f"issued {now - issued} s ago")


LIMIT_CHECKS: Final = (
    LimitCheck(
        "policy.hwmodel", ("hwmodel",),
        "This participant trusts fewer hardware models than the manifest names.",
        lambda claims, limits, _now: _allowed(claims, "hwmodel", limits.hwmodels),
    ),
    LimitCheck(
        "policy.image_digest", ("submods.container.image_digest",),
        "This participant trusts fewer images than the manifest names.",
        lambda claims, limits, _now: _allowed(claims, "submods.container.image_digest", limits.image_digests),
    ),
    LimitCheck(
        "policy.project_number", ("submods.gce.project_number",),
        "This participant trusts fewer projects than the manifest names.",
        lambda claims, limits, _now: _allowed(claims, "submods.gce.project_number", limits.project_numbers),
    ),
    LimitCheck(
        "policy.zone", ("submods.gce.zone",),
        "Law or contract may bind this participant to certain places.",
        lambda claims, limits, _now: _allowed(claims, "submods.gce.zone", limits.zones),
    ),
    LimitCheck(
        "policy.instance_id", ("submods.gce.instance_id",),
        "This participant trusts fewer VMs than the manifest names.",
        lambda claims, limits, _now: _allowed(claims, "submods.gce.instance_id", limits.instance_ids),
    ),
    LimitCheck(
        "policy.service_accounts", ("google_service_accounts",),
        "This participant trusts fewer service accounts than the manifest names.",
        _service_accounts,
    ),
    LimitCheck(
        "policy.token_age", ("iat",),
        "This participant asks for fresher evidence than the broker's default.",
        _token_age,
    ),
)  # fmt: skip
"""Every limit of `policy.Limits`, in the order in which they are reported."""


CONTAINER_CLAIMS_NAME: Final = "container_claims"
CONTAINER_CLAIMS_WHY: Final = "A container claim unknown to this program may be a new way to change what runs."


def container_claims(claims: Claims, policy: Policy) -> Finding:
    """Refuse members of `submods.container` that neither this program nor the participant knows."""
    container = claims.at("submods.container")
    expected = "no members but the known ones"
    if not isinstance(container, dict):
        return Finding(False, expected, described(container))
    unknown = sorted(map(str, container.keys() - CONTAINER_CLAIMS - policy.container_claims_allowed))
    return Finding(not unknown, expected, described(unknown) if unknown else "the known ones")
