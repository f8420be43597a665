import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcbn_broker.appraisal import AppraisalFailed, Policy, Verdict, appraise
from mcbn_broker.appraisal.checks import CHECKS, TRUST_ANCHOR_NAME, Check
from mcbn_broker.appraisal.policy_checks import CONTAINER_CLAIMS_NAME, LIMIT_CHECKS, LimitCheck
from mcbn_broker.attestation.result import AttestationResult
from mcbn_broker.errors import BrokerError
from mcbn_protocol.identifiers import Role
from mcbn_protocol.messages import CHECK_NAME
from mcbn_protocol.reference_values import EvidenceKind, ImageSigner, SignatureAlgorithm, SupportAttribute, ValueRule
from mcbn_simulator.claims import claims_for
from mcbn_simulator.machine import SimulatedMachine

CONTAINER = "submods.container"
SPACE = "submods.confidential_space"

# check, its claim, wrong values of the right type. `...` (missing), null and wrong types are added below.
WORKLOAD = "/usr/local/bin/mcbn-workload"
ACCOUNT = "workload@operator.iam.gserviceaccount.com"
WRONG: dict[tuple[str, str], list[Any]] = {
    ("issuer", "iss"): ["https://attacker.example", "https://confidentialcomputing.googleapis.com/"],
    ("dbgstat", "dbgstat"): ["enabled", "disabled", "Disabled-Since-Boot", "disabled-fully"],
    ("support_attributes", f"{SPACE}.support_attributes"): [[], ["LATEST", "USABLE"], ["EXPERIMENTAL"], ["stable"]],
    ("swname", "swname"): ["GCE", "confidential_space", "CONFIDENTIAL_SPACE\u200b"],
    ("secboot", "secboot"): [False],
    ("hwmodel", "hwmodel"): ["GCP_SHIELDED_VM", "GCP_AMD_SEV_ES", "gcp_amd_sev"],
    ("image_digest", f"{CONTAINER}.image_digest"): [
        "sha256:" + "cd" * 32,
        "SHA256:" + "ab" * 32,
        "sha256:" + "AB" * 32,
    ],
    ("args", f"{CONTAINER}.args"): [[], ["client"], [WORKLOAD], ["client", WORKLOAD], [WORKLOAD, "client", ""]],
    ("project_number", "submods.gce.project_number"): ["1", "297985297894 ", "operator"],
    ("instance_id", "submods.gce.instance_id"): ["1", "vm-1"],
    ("service_accounts", "google_service_accounts"): [[], ["other@x.example"], [ACCOUNT, "x@y.example"], [ACCOUNT] * 2],
    ("restart_policy", f"{CONTAINER}.restart_policy"): ["Always", "never"],
    ("monitoring_memory", f"{SPACE}.monitoring_enabled.memory"): [True],
    ("oemid", "oemid"): [0, 11128, 11129.0],
    ("eat_profile", "eat_profile"): ["https://example.com/"],
    ("swversion", "swversion"): [[], ["250800", "250801"], [""], ["25 08"]],
    ("env", "submods.gce.instance_name"): ["vm-2"],
    ("env", f"{CONTAINER}.env"): [{}],
}

WRONG_TYPES: list[Any] = [..., None, "true", "", 1, 1.5, {"a": "b"}, [1], [["STABLE"]], [None], "x" * 5000]


@pytest.mark.parametrize(
    "case", [(*where, value) for where, values in WRONG.items() for value in [*values, *WRONG_TYPES]]
)
def test_a_claim_that_is_missing_or_wrong_turns_exactly_its_check_red(
    claims: Any, changed: Any, judged: Any, case: tuple[str, str, Any]
) -> None:
    check, path, value = case
    verdict = judged(changed(claims, path, value))
    assert [one.name for one in verdict.failures] == [check]
    assert verdict.first_failure.name == check
    if value is ...:
        assert "missing" in verdict.first_failure.found


def test_what_was_agreed_passes_every_check(claims: Any, tdx_claims: Any, judged: Any) -> None:
    for genuine in (claims, tdx_claims):
        verdict = judged(genuine)
        assert verdict.passed
        assert verdict.first_failure is None
        assert verdict.failures == ()
        assert verdict.reference == 0
        assert verdict.unknown_claims == ()
        verdict.require_passed()
        names = {check.name for check in (*CHECKS, *LIMIT_CHECKS)} | {TRUST_ANCHOR_NAME, CONTAINER_CLAIMS_NAME}
        assert {check.name for check in verdict.checks} == names
        assert len(verdict.checks) == len(names)


@pytest.mark.parametrize("hwmodel", ["GCP_AMD_SEV", "GCP_INTEL_TDX"])
def test_a_simulated_machine_passes(judged: Any, variant: Any, hwmodel: str) -> None:
    machine = SimulatedMachine(
        image_digest="sha256:" + "ab" * 32, hwmodel=hwmodel, cmd=("client",), env_override={"MCBN_CONNECT": "far:4433"}
    )
    claims = claims_for(machine, issuer="http://127.0.0.1:1", audience="x", nonces=("n" * 10, "m" * 10), now=1)
    reference = variant(issuer="http://127.0.0.1:1", project_numbers=(), instance_ids=None, service_accounts=None)
    verdict = judged(claims, reference)
    assert verdict.failures == ()
    assert verdict.unknown_claims == ()


def test_a_check_has_a_unique_name_fit_for_a_refusal_and_a_reason() -> None:
    checks: list[Check | LimitCheck] = [*CHECKS, *LIMIT_CHECKS]
    assert len({check.name for check in checks}) == len(checks)
    for check in checks:
        assert CHECK_NAME.fullmatch(check.name)
        assert check.why.endswith(".")
        assert check.claims


def test_a_check_says_what_it_expected_and_found(claims: Any, changed: Any, judged: Any) -> None:
    failure = judged(changed(claims, "dbgstat", "enabled\x1b[2J\u202e")).first_failure
    assert failure.expected == '"disabled-since-boot"'
    assert failure.found == '"enabled\\u001b[2J\\u202e"'
    assert "debug image" in failure.why


def test_a_debug_image_is_refused_by_two_checks(claims: Any, changed: Any, red: Any) -> None:
    debug = changed(changed(claims, "dbgstat", "enabled"), f"{SPACE}.support_attributes", ...)
    assert red(debug) == {"dbgstat", "support_attributes"}


def test_a_debug_image_passes_only_where_the_manifest_says_so(
    claims: Any, changed: Any, red: Any, variant: Any
) -> None:
    insecure = variant(dbgstat="enabled", support_attribute=SupportAttribute.NONE, insecure_debug=True)
    debug = changed(changed(claims, "dbgstat", "enabled"), f"{SPACE}.support_attributes", ...)
    assert red(debug, insecure) == set()
    assert red(claims, insecure) == {"dbgstat"}
    assert red(changed(debug, f"{SPACE}.support_attributes", None), insecure) == {"support_attributes"}


@pytest.mark.parametrize(
    "case",
    [
        ("STABLE", ["STABLE"], True),
        ("STABLE", ["USABLE", "LATEST"], False),
        ("USABLE", ["USABLE"], True),
        ("USABLE", ["STABLE"], True),
        ("USABLE", ["EXPERIMENTAL"], False),
        ("EXPERIMENTAL", ["EXPERIMENTAL"], True),
        ("EXPERIMENTAL", ["USABLE"], True),
        ("EXPERIMENTAL", ["LATEST"], False),
    ],
)
def test_support_attributes_have_an_order(
    claims: Any, changed: Any, red: Any, variant: Any, case: tuple[str, list[str], bool]
) -> None:
    lowest, found, passes = case
    reference = variant(support_attribute=SupportAttribute(lowest))
    expected = set() if passes else {"support_attributes"}
    assert red(changed(claims, f"{SPACE}.support_attributes", found), reference) == expected


@pytest.mark.parametrize("value", [..., None, [], {}])
def test_no_command_override(claims: Any, changed: Any, red: Any, value: Any) -> None:
    assert red(changed(claims, f"{CONTAINER}.cmd_override", value)) == set()


@pytest.mark.parametrize("value", [["client"], [""], "", 0, False, {"a": 1}, "x"])
def test_any_command_override_is_refused(claims: Any, changed: Any, red: Any, value: Any) -> None:
    assert red(changed(claims, f"{CONTAINER}.cmd_override", value)) == {"cmd_override"}


def overridden(claims: Any, changed: Any, overrides: Any, **env: Any) -> Any:
    image = {"PATH": claims["submods"]["container"]["env"]["PATH"], "HOSTNAME": "vm-1"}
    return changed(changed(claims, f"{CONTAINER}.env_override", overrides), f"{CONTAINER}.env", image | env)


@pytest.mark.parametrize("value", [..., None, {}])
def test_no_environment_override(claims: Any, changed: Any, red: Any, variant: Any, value: Any) -> None:
    bare = overridden(claims, changed, value)
    assert red(bare) == set()
    assert red(bare, variant(env_override={})) == set()


def test_admitted_overrides_pass(claims: Any, changed: Any, red: Any, variant: Any) -> None:
    rules = {"A": ValueRule("exact", is_pattern=False), "B": ValueRule("x*", is_pattern=True)}
    overrides = {"A": "exact", "B": "x.y"}
    assert red(overridden(claims, changed, overrides, **overrides), variant(env_override=rules)) == set()


def test_an_override_of_the_images_own_variable(claims: Any, changed: Any, red: Any, variant: Any) -> None:
    path = claims["submods"]["container"]["env"]["PATH"]
    reference = variant(
        env={"PATH": path, "LEVEL": "info"}, env_override={"LEVEL": ValueRule("debug", is_pattern=False)}
    )
    assert red(overridden(claims, changed, {"LEVEL": "debug"}, LEVEL="debug"), reference) == set()
    assert red(overridden(claims, changed, {"LEVEL": "debug"}, LEVEL="info"), reference) == {"env"}
    assert red(overridden(claims, changed, {}, LEVEL="debug"), reference) == {"env"}
    assert red(overridden(claims, changed, {}), reference) == {"env"}
    assert red(overridden(claims, changed, {}, LEVEL="info"), reference) == set()


@pytest.mark.parametrize(
    "overrides",
    [
        {"LD_PRELOAD": "/tmp/x.so"},
        {"MCBN_CONNECT": "10.0.0.2:4434"},
        {"MCBN_CONNECT": "10.0.0.2:4433\n"},
        {"mcbn_connect": "10.0.0.2:4433"},
        {"MCBN_CONNECT": "10.0.0.2:4433", "SSLKEYLOGFILE": "/tmp/keys"},
        {"HOSTNAME": "vm-1"},
    ],
)
def test_any_other_override_is_refused(claims: Any, changed: Any, red: Any, variant: Any, overrides: Any) -> None:
    attack = overridden(claims, changed, overrides, **overrides)
    assert red(attack) == {"env_override"}
    assert red(attack, variant(env_override={})) == {"env_override"}


@pytest.mark.parametrize("value", ["", 0, False, [1], ["MCBN_CONNECT"], {"MCBN_CONNECT": None}, {"MCBN_CONNECT": 4433}])
def test_an_override_of_another_type_is_refused(claims: Any, changed: Any, red: Any, value: Any) -> None:
    assert red(overridden(claims, changed, value)) == {"env_override"}


@pytest.mark.parametrize(
    "env",
    [{"LD_PRELOAD": "/tmp/x.so"}, {"PATH": "/tmp"}, {"HOSTNAME": "vm-2"}, {"MCBN_CONNECT": "10.0.0.3:4433"}, {"X": 1}],
)
def test_an_environment_that_the_overrides_do_not_explain_is_refused(
    claims: Any, changed: Any, judged: Any, env: dict[str, Any]
) -> None:
    verdict = judged(
        overridden(claims, changed, {"MCBN_CONNECT": "10.0.0.2:4433"}, **({"MCBN_CONNECT": "10.0.0.2:4433"} | env))
    )
    assert [one.name for one in verdict.failures] == ["env"]
    assert next(iter(env)) in verdict.first_failure.found


def test_an_environment_without_hostname_is_refused(claims: Any, changed: Any, red: Any) -> None:
    assert red(changed(claims, f"{CONTAINER}.env.HOSTNAME", ...)) == {"env"}


@pytest.mark.parametrize(
    "tdx", [{"gcp_attester_tcb_status": "UpToDate"}, [{"gcp_attester_tcb_status": "UpToDate"}] * 2]
)
def test_tdx_up_to_date_as_object_or_list(tdx_claims: Any, changed: Any, red: Any, tdx: Any) -> None:
    assert red(changed(tdx_claims, "tdx", tdx)) == set()


@pytest.mark.parametrize(
    "tdx",
    [
        *(..., None, [], {}, "UpToDate", 1, [None], ["UpToDate"]),
        {"gcp_attester_tcb_status": "OutOfDate"},
        {"gcp_attester_tcb_status": ["UpToDate"]},
        [{"gcp_attester_tcb_status": "UpToDate"}, {"gcp_attester_tcb_status": "OutOfDate"}],
        [{"gcp_attester_tcb_status": "UpToDate"}, {}],
    ],
)
def test_tdx_that_is_not_up_to_date_is_refused(tdx_claims: Any, changed: Any, red: Any, tdx: Any) -> None:
    assert red(changed(tdx_claims, "tdx", tdx)) == {"tdx"}


@pytest.mark.parametrize("source", [..., None, [], ["AMD"], ["INTEL", "GOOGLE"], "INTEL", [["INTEL"]]])
def test_tdx_evidence_from_elsewhere_is_refused(tdx_claims: Any, changed: Any, red: Any, source: Any) -> None:
    assert red(changed(tdx_claims, "attester_tcb", source)) == {"attester_tcb"}


def test_tdx_claims_on_amd_are_refused(claims: Any, changed: Any, red: Any, tdx_claims: Any) -> None:
    assert red(changed(claims, "tdx", tdx_claims["tdx"])) == {"tdx"}
    assert red(changed(claims, "attester_tcb", ["INTEL"])) == {"attester_tcb"}


MODES: list[Any] = ["OFF", "DEVTOOLS", "on", None, True, ["ON"]]
NO_GPUS: list[Any] = [None, {}, [], "ON", [{"cc_mode": "ON"}]]


@pytest.mark.parametrize(
    ("gpu", "passes"),
    [
        ({"cc_mode": "ON"}, True),
        ({"cc_mode": "ON", "gpus": [{"model": "x"}]}, True),
        *(({"cc_mode": mode}, False) for mode in MODES),
        *((value, False) for value in NO_GPUS),
    ],
)
def test_a_gpu_is_in_confidential_mode(claims: Any, changed: Any, red: Any, gpu: Any, passes: bool) -> None:
    assert red(changed(claims, "submods.nvidia_gpu", gpu)) == (set() if passes else {"nvidia_gpu"})


def test_what_the_manifest_leaves_open_still_has_its_shape(claims: Any, changed: Any, red: Any, variant: Any) -> None:
    lax = variant(project_numbers=(), instance_ids=None, service_accounts=None)
    assert red(claims, lax) == set()
    assert red(changed(claims, "submods.gce.project_number", "2"), lax) == set()
    assert red(changed(claims, "google_service_accounts", ["x@y.example"]), lax) == set()
    assert red(changed(claims, "submods.gce.project_number", "two"), lax) == {"project_number"}
    assert red(changed(claims, "submods.gce.instance_id", ...), lax) == {"instance_id"}
    assert red(changed(claims, "google_service_accounts", ...), lax) == {"service_accounts"}


@pytest.mark.parametrize("name", ["hwmodels", "restart_policies"])
def test_an_empty_list_admits_nothing(claims: Any, red: Any, variant: Any, name: str) -> None:
    assert len(red(claims, variant(**{name: ()}))) == 1


def test_where_signatures_decide_the_digest_still_has_its_shape(
    claims: Any, changed: Any, red: Any, variant: Any
) -> None:
    signer = ImageSigner("ab" * 32, SignatureAlgorithm.ECDSA_P256_SHA256)
    lax = variant(image_digests=(), image_signatures=(signer,))
    signature = {"key_id": signer.key_id, "signature": "x", "signature_algorithm": signer.algorithm.value}
    signed = changed(claims, f"{CONTAINER}.image_signatures", [signature])
    assert red(signed, lax) == set()
    assert red(changed(signed, f"{CONTAINER}.image_digest", "sha256:" + "cd" * 32), lax) == set()
    assert red(changed(signed, f"{CONTAINER}.image_digest", "latest"), lax) == {"image_digest"}
    assert red(claims, lax) == {"image_signatures"}


def test_one_of_several_references_is_enough(claims: Any, judged: Any, variant: Any) -> None:
    far = variant(hwmodels=("GCP_INTEL_TDX",), args=("x",), monitoring_memory=True)
    near = variant(hwmodels=("GCP_INTEL_TDX",))
    verdict = judged(claims, far, near, variant())
    assert verdict.passed
    assert verdict.reference == 2
    verdict = judged(claims, far, near)
    assert verdict.reference == 1
    assert [check.name for check in verdict.failures] == ["hwmodel"]


def test_two_half_matching_references_do_not_make_a_whole_one(claims: Any, judged: Any, variant: Any) -> None:
    assert not judged(claims, variant(hwmodels=("GCP_INTEL_TDX",)), variant(args=("other",))).passed


def test_a_verdict_without_checks_is_a_failure() -> None:
    verdict = Verdict((), None, ())
    assert not verdict.passed
    assert verdict.first_failure is not None
    assert verdict.first_failure.name == "references"
    with pytest.raises(AppraisalFailed):
        verdict.require_passed()


def test_a_role_without_references_is_a_failure(claims: Any) -> None:
    result = AttestationResult(EvidenceKind.CONFIDENTIAL_SPACE, claims["iss"], None, claims)
    verdict = appraise(result, (), Policy(), role=Role.CLIENT, now=claims["iat"])
    assert not verdict.passed
    assert verdict.reference is None


def test_the_error_carries_every_failure(claims: Any, changed: Any, judged: Any) -> None:
    verdict = judged(changed(changed(claims, "secboot", "true"), "oemid", 1))
    with pytest.raises(AppraisalFailed) as caught:
        verdict.require_passed()
    assert isinstance(caught.value, BrokerError)
    assert caught.value.check == "secboot"
    assert caught.value.verdict is verdict
    assert str(caught.value) == 'secboot: expected true, found "true"; oemid: expected 11129, found 1'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=10,
)
PATHS = sorted(
    {path for check in CHECKS for path in check.claims}
    | {path for limit in LIMIT_CHECKS for path in limit.claims}
    | {"submods", CONTAINER, "submods.gce", SPACE, "submods.nvidia_gpu.cc_mode"}
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(PATHS), JSON), min_size=1, max_size=3), st.booleans())
def test_whatever_the_claims_are_there_is_a_verdict(
    claims: Any, tdx_claims: Any, judged: Any, mutations: list[tuple[str, Any]], tdx: bool
) -> None:
    changed_claims = copy.deepcopy(tdx_claims if tdx else claims)
    for path, value in mutations:
        *parents, name = path.split(".")
        inner: Any = changed_claims
        for parent in parents:
            inner = inner.get(parent) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[name] = value
    policy = Policy(
        maximum_token_age_seconds=10, zones=frozenset({"us-central1-a"}), service_accounts=frozenset({"a@b.example"})
    )
    for verdict in (judged(changed_claims), judged(changed_claims, policy=policy)):
        for check in verdict.checks:
            assert len(check.found) < 300
            assert all(" " <= character <= "~" for character in check.found + check.expected)
        assert verdict.passed is (verdict.first_failure is None)


@given(JSON.filter(lambda value: isinstance(value, dict)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_claims_of_any_shape_never_pass(judged: Any, claims: dict[str, Any]) -> None:
    assert not judged(claims).passed
