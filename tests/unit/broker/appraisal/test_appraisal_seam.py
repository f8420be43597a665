"""The appraisal seam: each claim changed in turn (missing, wrong type, wrong value), and exactly which checks turn red.

A row with more than one red check says why. A check or a claim without a row is a failure.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import pytest

from mcbn_broker.appraisal import Policy
from mcbn_broker.appraisal.accounting import ACCOUNTS, Treatment
from mcbn_broker.appraisal.appraise import CONDITION_PREFIX
from mcbn_broker.appraisal.checks import CHECKS, TRUST_ANCHOR_NAME
from mcbn_broker.appraisal.policy_checks import CONTAINER_CLAIMS_NAME, LIMIT_CHECKS
from mcbn_protocol.reference_values import ImageSigner, SignatureAlgorithm

CONTAINER, SPACE, GCE = "submods.container", "submods.confidential_space", "submods.gce"
KEY = "ab" * 32
SIGNED = [{"key_id": KEY, "signature": "MEUC", "signature_algorithm": "ECDSA_P256_SHA256"}]
SIGNER = ImageSigner(KEY, SignatureAlgorithm.ECDSA_P256_SHA256)
POLICY = {
    "hwmodels": ["GCP_AMD_SEV"],
    "image_digests": ["sha256:" + "ab" * 32],
    "project_numbers": ["297985297894"],
    "zones": ["us-central1-a"],
    "instance_ids": ["6549194765718711860"],
    "service_accounts": ["workload@operator.iam.gserviceaccount.com"],
    "maximum_token_age_seconds": 60,
    "conditions": ["assertion.submods.gce.project_id == 'operator'"],
}
"""A policy that limits everything, and lets the good claims pass."""


class Row(NamedTuple):
    """One change of good claims."""

    path: str
    value: Any  # `...` takes the claim away
    red: tuple[str, ...]
    reason: str = ""  # why more than one check is red
    tdx: bool = False
    signed: bool = False  # the reference value names a signer
    policy: bool = False  # the participant limits everything


def rows(check: str, path: str, *values: Any, **more: Any) -> list[Row]:
    """Missing, null and wrong types besides the wrong values, all of which turn one check red."""
    wrong_types = [..., None, 1.5, "x", [1], {"a": 1}]
    return [Row(path, value, (check,), **more) for value in [*wrong_types, *values]]


def limited(check: str, agreed: str, path: str, *values: Any) -> list[Row]:
    """What a limit of the policy says of a claim that the manifest has agreed on as well."""
    reason = "the policy limits what the manifest has agreed on"
    return [Row(path, value, (agreed, check), reason, policy=True) for value in [..., None, 1, *values]]


OTHER_SIGNATURES: list[dict[str, Any]] = [
    {"key_id": "cd" * 32}, {"key_id": KEY.upper()}, {"signature_algorithm": "RSASSA_PSS_SHA256"},
    {"key_id": [KEY]}, {"key_id": None}, {"signature_algorithm": None}, {"signature_algorithm": {}},
]  # fmt: skip
NOTHING: list[Any] = [..., None, {}]
NO_GPUS: list[Any] = [None, {}, [], "ON", {"cc_mode": "OFF"}]
TABLE = [
    *rows("issuer", "iss", "https://attacker.example"),
    *rows("dbgstat", "dbgstat", "enabled", "Disabled-Since-Boot"),
    *rows("support_attributes", f"{SPACE}.support_attributes", [], ["USABLE", "LATEST"], ["stable"]),
    *rows("swname", "swname", "GCE", "confidential_space"),
    *rows("secboot", "secboot", False, "true", 1),
    *rows("hwmodel", "hwmodel", "GCP_SHIELDED_VM", "GCP_AMD_SEV_ES"),
    Row("hwmodel", "GCP_INTEL_TDX", ("tdx", "attester_tcb"), "a TDX model without the claims that TDX has"),
    Row("hwmodel", ..., ("hwmodel", "tdx", "attester_tcb"), "TDX claims without a TDX model", tdx=True),
    Row("hwmodel", "GCP_AMD_SEV", ("tdx", "attester_tcb"), "TDX claims of another model", tdx=True),
    *rows("image_digest", f"{CONTAINER}.image_digest", "sha256:" + "cd" * 32, "SHA256:" + "ab" * 32),
    *rows("image_signatures", f"{CONTAINER}.image_signatures", [], [{}], [KEY], {"key_id": KEY}, signed=True),
    *(
        Row(f"{CONTAINER}.image_signatures", [SIGNED[0] | change], ("image_signatures",), signed=True)
        for change in OTHER_SIGNATURES
    ),
    *rows("args", f"{CONTAINER}.args", [], ["client"], ["/usr/local/bin/mcbn-workload", "client", "--debug"]),
    *(Row(f"{CONTAINER}.cmd_override", value, ("cmd_override",)) for value in (["sh"], "sh", {"a": 1}, 0, False)),
    *(
        Row(f"{CONTAINER}.env_override", value, red, "the environment then has what no override explains")
        for value, red in [
            ({"LD_PRELOAD": "/x.so"}, ("env_override", "env")), ({"MCBN_CONNECT": "far:1"}, ("env_override", "env")),
            ("MCBN_CONNECT", ("env_override", "env")), ([1], ("env_override", "env")),
        ]
    ),
    *(Row(f"{CONTAINER}.env_override", value, ("env",)) for value in NOTHING),
    *rows("env", f"{CONTAINER}.env", {}),
    Row(f"{CONTAINER}.env.LD_PRELOAD", "/x.so", ("env",)),
    Row(f"{CONTAINER}.env.HOSTNAME", "other", ("env",)),
    Row(f"{CONTAINER}.env.HOSTNAME", ..., ("env",)),
    *rows("env", f"{GCE}.instance_name", "vm-2"),
    *rows("project_number", f"{GCE}.project_number", "1"),
    *rows("instance_id", f"{GCE}.instance_id", "1"),
    *rows("service_accounts", "google_service_accounts", [], ["other@x.example"]),
    *rows("tdx", "tdx", {"gcp_attester_tcb_status": "OutOfDate"}, [], tdx=True),
    Row("tdx", {"gcp_attester_tcb_status": "UpToDate"}, ("tdx",)),
    *rows("attester_tcb", "attester_tcb", [], ["AMD"], ["INTEL", "AMD"], tdx=True),
    Row("attester_tcb", ["INTEL"], ("attester_tcb",)),
    *(Row("submods.nvidia_gpu", value, ("nvidia_gpu",)) for value in NO_GPUS),
    *(Row("submods.nvidia_gpu.cc_mode", value, ("nvidia_gpu",)) for value in (None, True, "DEVTOOLS", ["ON"])),
    *rows("restart_policy", f"{CONTAINER}.restart_policy", "Always"),
    *rows("monitoring_memory", f"{SPACE}.monitoring_enabled.memory", True),
    *rows("oemid", "oemid", 11128, "11129"),
    *rows("eat_profile", "eat_profile", "https://example.com/"),
    *(Row("swversion", value, ("swversion",)) for value in (..., None, "250800", 1, [], ["1", "2"], [1], ["25 08"])),
    *(Row(f"{CONTAINER}.{name}", [], (CONTAINER_CLAIMS_NAME,)) for name in ("entrypoint", "volumes")),
    *limited("policy.hwmodel", "hwmodel", "hwmodel", "GCP_SHIELDED_VM"),
    *limited("policy.image_digest", "image_digest", f"{CONTAINER}.image_digest", "sha256:" + "cd" * 32),
    *limited("policy.project_number", "project_number", f"{GCE}.project_number", "1"),
    *limited("policy.instance_id", "instance_id", f"{GCE}.instance_id", "1"),
    *limited("policy.service_accounts", "service_accounts", "google_service_accounts", [], ["x@y.example"]),
    *(Row(f"{GCE}.zone", value, ("policy.zone",), policy=True) for value in (..., None, 1, "europe-west1-b")),
    *(Row("iat", value, ("policy.token_age",), policy=True) for value in (..., None, "1", 1.5, True, 1)),
    *(
        Row(f"{GCE}.project_id", value, (f"{CONDITION_PREFIX}1",), policy=True)
        for value in (..., None, 1, "another", ["operator"])
    ),
]  # fmt: skip


def at(claims: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    *parents, name = path.split(".")
    inner = claims
    for parent in parents:
        inner = inner.setdefault(parent, {})
    if value is ...:
        inner.pop(name, None)
    else:
        inner[name] = value
    return claims


def appraised(row: Row, claims: Any, tdx_claims: Any, judged: Any, reference: Any) -> set[str]:
    base = at(tdx_claims if row.tdx else claims, f"{CONTAINER}.image_signatures", SIGNED)
    changed = at(base, row.path, row.value) if row.path else base
    agreed = dataclasses.replace(reference, image_signatures=(SIGNER,)) if row.signed else reference
    policy = Policy.model_validate_json("{}") if not row.policy else Policy.model_validate(POLICY)
    return {check.name for check in judged(changed, agreed, policy=policy).failures}


@pytest.mark.parametrize(
    "row", TABLE, ids=lambda row: f"{row.path}={row.value!r:.40}{' tdx' * row.tdx}{' policy' * row.policy}"
)
def test_exactly_the_listed_checks_turn_red(
    row: Row, claims: Any, tdx_claims: Any, judged: Any, reference: Any
) -> None:
    assert appraised(row, claims, tdx_claims, judged, reference) == set(row.red)


@pytest.mark.parametrize("flags", list(itertools.product([False, True], repeat=3)))
def test_the_good_claims_turn_none_red(
    flags: tuple[bool, bool, bool], claims: Any, tdx_claims: Any, judged: Any, reference: Any
) -> None:
    tdx, signed, policy = flags
    row = Row("", None, (), tdx=tdx, signed=signed, policy=policy)
    red = appraised(row, claims, tdx_claims, judged, reference)
    assert red == ({"policy.hwmodel"} if tdx and policy else set())  # this policy trusts AMD only


def test_a_row_with_several_red_checks_has_a_reason() -> None:
    assert [row for row in TABLE if len(row.red) > 1 and not row.reason] == []
    assert all(row.red for row in TABLE)


def test_every_check_has_rows() -> None:
    """The trust anchor is no claim: its rows are the test below."""
    checks = {check.name for check in (*CHECKS, *LIMIT_CHECKS)} | {CONTAINER_CLAIMS_NAME, f"{CONDITION_PREFIX}1"}
    assert {name for row in TABLE for name in row.red} == checks


def test_every_claim_that_counts_has_rows() -> None:
    counted = {path for path, one in ACCOUNTS.items() if one.treatment in {Treatment.REQUIRED, Treatment.OPTIONAL}}
    assert {row.path for row in TABLE} >= counted


@pytest.mark.parametrize("case", [(b"1", None), (None, b"1"), (b"1", b"2"), (None, None), (b"1", b"1")])
def test_the_trust_anchor(claims: Any, judged_by: Any, reference: Any, case: tuple[bytes | None, bytes | None]) -> None:
    root, agreed = case
    verdict = judged_by(root, claims, dataclasses.replace(reference, root=agreed))
    assert [check.name for check in verdict.failures] == ([] if root == agreed else [TRUST_ANCHOR_NAME])
    (check,) = (one for one in verdict.checks if one.name == TRUST_ANCHOR_NAME)
    published = "the issuer's published key set"
    assert check.expected == (published if agreed is None else f"root certificate {agreed.hex()}")
