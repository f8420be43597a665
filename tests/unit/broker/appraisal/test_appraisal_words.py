"""What a person reads of each check: what was expected and what was found, for checks that pass and that fail."""

from pathlib import Path
from typing import Any

import pytest

from mcbn_broker.appraisal import Policy, PolicyError, load_policy
from mcbn_protocol.reference_values import ImageSigner, SignatureAlgorithm, SupportAttribute

ISSUER = '"https://confidentialcomputing.googleapis.com"'
DIGEST = '"sha256:' + "ab" * 32 + '"'
ARGS = '["/usr/local/bin/mcbn-workload", "client"]'
ACCOUNTS = '["workload@operator.iam.gserviceaccount.com"]'
PROFILE = '"https://cloud.google.com/confidential-computing/confidential-space/docs/reference/token-claims"'
PUBLISHED = "the issuer's published key set"
ENV = "the image's own, with the overrides, and HOSTNAME = submods.gce.instance_name"

GOOD = [
    ("trust_anchor", PUBLISHED, PUBLISHED),
    ("issuer", ISSUER, ISSUER),
    ("dbgstat", '"disabled-since-boot"', '"disabled-since-boot"'),
    ("support_attributes", "STABLE or better", '["LATEST", "STABLE", "USABLE"]'),
    ("swname", '"CONFIDENTIAL_SPACE"', '"CONFIDENTIAL_SPACE"'),
    ("secboot", "true", "true"),
    ("hwmodel", 'one of ["GCP_AMD_SEV", "GCP_INTEL_TDX"]', '"GCP_AMD_SEV"'),
    ("image_digest", f"one of [{DIGEST}]", DIGEST),
    ("image_signatures", "any: image_digest decides", "missing"),
    ("args", ARGS, ARGS),
    ("cmd_override", "absent or empty", "missing"),
    ("env_override", 'only {"MCBN_CONNECT": "*:4433"}', '{"MCBN_CONNECT": "10.0.0.2:4433"}'),
    ("env", ENV, "the same"),
    ("project_number", 'one of ["297985297894"]', '"297985297894"'),
    ("instance_id", 'one of ["6549194765718711860"]', '"6549194765718711860"'),
    ("service_accounts", ACCOUNTS, ACCOUNTS),
    ("tdx", "absent without TDX", "missing"),
    ("attester_tcb", "absent without TDX", "missing"),
    ("nvidia_gpu", "absent, or cc_mode ON", "missing"),
    ("restart_policy", 'one of ["Never"]', '"Never"'),
    ("monitoring_memory", "false", "false"),
    ("oemid", "11129", "11129"),
    ("eat_profile", PROFILE, PROFILE),
    ("swversion", "a list of one version", '["250800"]'),
    ("container_claims", "no members but the known ones", "the known ones"),
]
LIMITS = ("hwmodel", "image_digest", "project_number", "zone", "instance_id", "service_accounts", "token_age")
UNLIMITED = [(f"policy.{name}", "any", "not compared: the policy has no such limit") for name in LIMITS]
ABSENT_PASSES = {
    "trust_anchor",
    "image_signatures",
    "cmd_override",
    "env_override",
    "tdx",
    "attester_tcb",
    "nvidia_gpu",
}


def words(verdict: Any) -> dict[str, tuple[bool, str, str]]:
    return {check.name: (check.passed, check.expected, check.found) for check in verdict.checks}


def test_what_was_agreed_is_told_check_by_check_the_most_dangerous_first(claims: Any, judged: Any) -> None:
    checks = judged(claims).checks
    assert [(check.name, check.expected, check.found) for check in checks] == GOOD + UNLIMITED
    assert all(check.passed for check in checks)


def test_a_token_without_claims_is_told_what_is_missing(judged: Any) -> None:
    found = words(judged({}))
    expected = {name: text for name, text, _ in GOOD} | {"env_override": "absent or empty"}
    for name, text in expected.items():
        what = PUBLISHED if name == "trust_anchor" else "missing"
        assert found[name] == (name in ABSENT_PASSES, text, what)
    tdx = words(judged({"hwmodel": "GCP_INTEL_TDX"}))
    assert tdx["tdx"] == (False, "gcp_attester_tcb_status UpToDate", "missing")
    assert tdx["attester_tcb"] == (False, '["INTEL"]', "missing")


def test_what_the_manifest_leaves_open_is_told_as_any(claims: Any, judged: Any, variant: Any) -> None:
    reference = variant(
        root=b"\x01" * 32,
        image_digests=(),
        image_signatures=(ImageSigner("ab" * 32, SignatureAlgorithm.ECDSA_P256_SHA256),),
        dbgstat="enabled",
        support_attribute=SupportAttribute.NONE,
        project_numbers=(),
        instance_ids=None,
        service_accounts=None,
        insecure_debug=True,
    )
    found = words(judged(claims, reference))
    signer = f'one by [["{"ab" * 32}", "ECDSA_P256_SHA256"]]'
    assert found["trust_anchor"] == (False, f"root certificate {'01' * 32}", PUBLISHED)
    assert found["support_attributes"] == (True, "any, or none", '["LATEST", "STABLE", "USABLE"]')
    assert found["image_digest"] == (True, "any: image_signatures decides", DIGEST)
    assert found["image_signatures"] == (False, signer, "missing")
    assert found["project_number"] == (True, "any", '"297985297894"')
    assert found["instance_id"] == (True, "any", '"6549194765718711860"')
    assert found["service_accounts"] == (True, "any", ACCOUNTS)


def test_what_a_policy_limits_is_told_with_its_limit(claims: Any, changed: Any, judged: Any) -> None:
    limits = {
        "hwmodels": ["GCP_AMD_SEV"], "image_digests": [DIGEST.strip('"')], "project_numbers": ["1"], "zones": ["z-a"],
        "instance_ids": ["2"], "service_accounts": ["c@d.example", "a@b.example"], "maximum_token_age_seconds": 5,
        "conditions": ["assertion.oemid == 1"],
    }  # fmt: skip
    policy = Policy.model_validate(limits)
    more = changed(changed(claims, "submods.container.zz", 1), "submods.container.aa", 2)
    expected = {
        "container_claims": (False, "no members but the known ones", '["aa", "zz"]'),
        "policy.hwmodel": (True, 'one of ["GCP_AMD_SEV"]', '"GCP_AMD_SEV"'),
        "policy.image_digest": (True, f"one of [{DIGEST}]", DIGEST),
        "policy.project_number": (False, 'one of ["1"]', '"297985297894"'),
        "policy.zone": (False, 'one of ["z-a"]', '"us-central1-a"'),
        "policy.instance_id": (False, 'one of ["2"]', '"6549194765718711860"'),
        "policy.service_accounts": (False, 'only ["a@b.example", "c@d.example"]', ACCOUNTS),
        "policy.token_age": (False, "issued at most 5 s ago", "issued 10 s ago"),
        "policy.condition.1": (False, "assertion.oemid == 1", "false"),
    }
    found = words(judged(more, policy=policy))
    assert {name: found[name] for name in expected} == expected
    nothing = words(judged({}, policy=policy))
    for name, (_, text, _) in expected.items():
        missing = "an error: KeyError: \"'oemid'\"" if name == "policy.condition.1" else "missing"
        assert nothing[name] == (False, text, missing)


@pytest.mark.parametrize(
    "case",
    [
        ("submods.container.env", None, ENV, "null"),
        ("submods.gce.instance_name", 7, ENV, "instance_name 7"),
        ("submods.container.env.LD_PRELOAD", "x", "{}", '{"LD_PRELOAD": "x"}'),
    ],
)
def test_a_wrong_environment_is_told_with_what_differs(
    claims: Any, changed: Any, judged: Any, case: tuple[str, Any, str, str]
) -> None:
    path, value, expected, found = case
    assert words(judged(changed(claims, path, value)))["env"] == (False, expected, found)


def test_variables_that_differ_are_told_in_order(claims: Any, changed: Any, judged: Any) -> None:
    claims = changed(changed(claims, "submods.container.env.PATH", "/"), "submods.container.env.A", "1")
    passed, expected, found = words(judged(claims))["env"]
    assert (passed, found) == (False, '{"A": "1", "PATH": "/"}')
    assert expected.startswith('{"PATH": "/usr/local/sbin')


def test_all_that_is_wrong_with_a_policy_is_told_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("zones = 'a'\nfirst = 1\n[roles.client]\nsecond = 2\n")
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    extra = "Extra inputs are not permitted"
    assert str(caught.value) == (
        f'{path}: "zones": Input should be a valid frozenset; "roles.client.second": {extra}; "first": {extra}; '
        "correct the file"
    )


def test_a_policy_that_asks_for_fresher_evidence_admits_up_to_its_last_second(claims: Any, judged: Any) -> None:
    for age, passes in ((10, True), (9, False)):
        verdict = judged(claims, policy=Policy.model_validate({"maximum_token_age_seconds": age}))
        assert verdict.passed is passes
