import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from mcbn_broker.appraisal import Policy, Verdict, appraise
from mcbn_broker.attestation.result import AttestationResult
from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import (
    PRODUCTION_ISSUER,
    ConfidentialSpaceReference,
    EvidenceKind,
    SupportAttribute,
    ValueRule,
)

NOW = 1_800_000_000
DIGEST = "sha256:" + "ab" * 32
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CLAIMS: dict[str, Any] = {
    "aud": "mcbn:v1:" + "ab" * 32 + ":alice",
    "exp": NOW + 3590,
    "iat": NOW - 10,
    "nbf": NOW - 10,
    "iss": PRODUCTION_ISSUER,
    "sub": "https://www.googleapis.com/compute/v1/projects/operator/zones/us-central1-a/instances/vm-1",
    "eat_nonce": ["C" * 55, "B" * 43],
    "eat_profile": "https://cloud.google.com/confidential-computing/confidential-space/docs/reference/token-claims",
    "secboot": True,
    "oemid": 11129,
    "hwmodel": "GCP_AMD_SEV",
    "swname": "CONFIDENTIAL_SPACE",
    "swversion": ["250800"],
    "dbgstat": "disabled-since-boot",
    "submods": {
        "confidential_space": {
            "support_attributes": ["LATEST", "STABLE", "USABLE"],
            "monitoring_enabled": {"memory": False},
        },
        "container": {
            "image_reference": "registry.example/workload:latest",
            "image_digest": DIGEST,
            "restart_policy": "Never",
            "image_id": "sha256:" + "cd" * 32,
            "env_override": {"MCBN_CONNECT": "10.0.0.2:4433"},
            "env": {"PATH": PATH, "MCBN_CONNECT": "10.0.0.2:4433", "HOSTNAME": "vm-1"},
            "args": ["/usr/local/bin/mcbn-workload", "client"],
        },
        "gce": {
            "zone": "us-central1-a",
            "project_id": "operator",
            "project_number": "297985297894",
            "instance_name": "vm-1",
            "instance_id": "6549194765718711860",
        },
    },
    "google_service_accounts": ["workload@operator.iam.gserviceaccount.com"],
}

TDX_CLAIMS: dict[str, Any] = CLAIMS | {
    "hwmodel": "GCP_INTEL_TDX",
    "attester_tcb": ["INTEL"],
    "tdx": {"gcp_attester_tcb_status": "UpToDate", "gcp_attester_tcb_date": "2024-03-13T00:00:00Z"},
}

REFERENCE = ConfidentialSpaceReference(
    issuer=PRODUCTION_ISSUER,
    root=None,
    image_digests=(DIGEST,),
    image_signatures=None,
    hwmodels=("GCP_AMD_SEV", "GCP_INTEL_TDX"),
    dbgstat="disabled-since-boot",
    support_attribute=SupportAttribute.STABLE,
    args=("/usr/local/bin/mcbn-workload", "client"),
    env={"PATH": PATH},
    env_override={"MCBN_CONNECT": ValueRule("*:4433", is_pattern=True)},
    restart_policies=("Never",),
    monitoring_memory=False,
    project_numbers=("297985297894",),
    instance_ids=("6549194765718711860",),
    service_accounts=("workload@operator.iam.gserviceaccount.com",),
    insecure_debug=False,
)


@pytest.fixture
def claims() -> dict[str, Any]:
    """Claims of an AMD SEV token that passes every check."""
    return copy.deepcopy(CLAIMS)


@pytest.fixture
def tdx_claims() -> dict[str, Any]:
    return copy.deepcopy(TDX_CLAIMS)


@pytest.fixture
def reference() -> ConfidentialSpaceReference:
    return REFERENCE


@pytest.fixture
def variant() -> Callable[..., ConfidentialSpaceReference]:
    return lambda **changes: dataclasses.replace(REFERENCE, **changes)


@pytest.fixture
def judged() -> Callable[..., Verdict]:
    def judge(
        claims: dict[str, Any],
        *references: ConfidentialSpaceReference,
        policy: Policy | None = None,
        role: Role = Role.CLIENT,
        now: int = NOW,
    ) -> Verdict:
        result = AttestationResult(EvidenceKind.CONFIDENTIAL_SPACE, str(claims.get("iss")), None, claims)
        return appraise(result, references or (REFERENCE,), policy or Policy(), role=role, now=now)

    return judge


@pytest.fixture
def judged_by() -> Callable[..., Verdict]:
    """Like `judged`, for a token that this root vouches for (None: the issuer's key set)."""

    def judge(root: bytes | None, claims: dict[str, Any], reference: ConfidentialSpaceReference) -> Verdict:
        result = AttestationResult(EvidenceKind.CONFIDENTIAL_SPACE, str(claims.get("iss")), root, claims)
        return appraise(result, (reference,), Policy(), role=Role.CLIENT, now=NOW)

    return judge


@pytest.fixture
def red(judged: Callable[..., Verdict]) -> Callable[..., set[str]]:
    """The names of the checks that fail."""
    return lambda *arguments, **named: {check.name for check in judged(*arguments, **named).failures}


@pytest.fixture
def changed() -> Callable[..., dict[str, Any]]:
    """Claims with one path set to a value; `...` removes it."""

    def change(claims: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
        result = copy.deepcopy(claims)
        *parents, name = path.split(".")
        inner = result
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if value is ...:
            inner.pop(name, None)
        else:
            inner[name] = value
        return result

    return change
