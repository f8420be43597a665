from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcbn_broker.appraisal import Policy, PolicyError, load_policy
from mcbn_broker.appraisal.policy import POLICY_BYTES
from mcbn_broker.errors import BrokerError
from mcbn_protocol.identifiers import Role

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32

FULL = f"""
image_digests = ["{DIGEST}", "{OTHER}"]
hwmodels = ["GCP_AMD_SEV", "GCP_INTEL_TDX"]
project_numbers = ["297985297894"]
instance_ids = ["6549194765718711860"]
zones = ["us-central1-a"]
service_accounts = ["workload@operator.iam.gserviceaccount.com", "spare@operator.iam.gserviceaccount.com"]
maximum_token_age_seconds = 60
container_claims_allowed = ["labels"]

[roles.client]
image_digests = ["{DIGEST}"]

[roles.server]
hwmodels = ["GCP_INTEL_TDX"]
maximum_token_age_seconds = 30
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str | bytes], Policy]:
    def write_and_load(text: str | bytes) -> Policy:
        path = tmp_path / "policy.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_policy(path)

    return write_and_load


def test_a_full_policy_loads_and_what_fits_it_passes(load: Any, claims: Any, judged: Any) -> None:
    policy = load(FULL)
    assert judged(claims, policy=policy).failures == ()
    assert policy.limits(Role.CLIENT).image_digests == {DIGEST}
    assert policy.limits(Role.SERVER).image_digests == {DIGEST, OTHER}
    assert policy.limits(Role.SERVER).hwmodels == {"GCP_INTEL_TDX"}
    assert policy.limits(Role.CLIENT).maximum_token_age_seconds == 60
    assert policy.limits(Role.SERVER).maximum_token_age_seconds == 30


def test_an_empty_policy_changes_nothing(load: Any, claims: Any, red: Any) -> None:
    assert load("") == Policy()
    assert red(claims, policy=Policy()) == set()


@pytest.mark.parametrize(
    ("text", "check"),
    [
        (f'image_digests = ["{OTHER}"]', "policy.image_digest"),
        ('hwmodels = ["GCP_INTEL_TDX"]', "policy.hwmodel"),
        ('project_numbers = ["1"]', "policy.project_number"),
        ('instance_ids = ["1"]', "policy.instance_id"),
        ('zones = ["europe-west1-b"]', "policy.zone"),
        ('service_accounts = ["other@x.example"]', "policy.service_accounts"),
        ("maximum_token_age_seconds = 9", "policy.token_age"),
    ],
)
def test_each_limit_turns_exactly_its_check_red(load: Any, claims: Any, red: Any, text: str, check: str) -> None:
    assert red(claims, policy=load(text)) == {check}
    assert red(claims, policy=load(f"[roles.client]\n{text}")) == {check}
    assert red(claims, policy=load(f"[roles.server]\n{text}")) == set()
    assert red(claims, policy=load(f"[roles.server]\n{text}"), role=Role.SERVER) == {check}


def test_limits_without_anything_in_common_admit_nothing(load: Any, claims: Any, red: Any) -> None:
    policy = load(f'image_digests = ["{DIGEST}"]\n[roles.client]\nimage_digests = ["{OTHER}"]')
    assert red(claims, policy=policy) == {"policy.image_digest"}


def test_a_policy_cannot_admit_what_the_manifest_does_not(claims: Any, changed: Any, red: Any, load: Any) -> None:
    policy = load(f'image_digests = ["{OTHER}"]\nhwmodels = ["GCP_AMD_SEV_ES"]')
    foreign = changed(changed(claims, "submods.container.image_digest", OTHER), "hwmodel", "GCP_AMD_SEV_ES")
    assert red(foreign, policy=policy) == {"image_digest", "hwmodel"}


@pytest.mark.parametrize(
    ("path", "check"),
    [
        ("submods.gce.zone", "policy.zone"),
        ("google_service_accounts", "policy.service_accounts"),
        ("iat", "policy.token_age"),
    ],
)
@pytest.mark.parametrize("value", [..., None, [], {}, 0, "", [1], 1.5])
def test_a_limited_claim_must_be_there(
    load: Any, claims: Any, changed: Any, red: Any, *, path: str, check: str, value: Any
) -> None:
    assert check in red(changed(claims, path, value), policy=load(FULL))


def test_an_unknown_container_claim_is_refused_unless_the_participant_lists_it(
    claims: Any, changed: Any, judged: Any, load: Any
) -> None:
    new = changed(claims, "submods.container.labels", {"a": "b"})
    verdict = judged(new)
    assert [(check.name, check.found) for check in verdict.failures] == [("container_claims", '["labels"]')]
    assert verdict.unknown_claims == ("submods.container.labels",)
    allowed = judged(new, policy=load('container_claims_allowed = ["labels"]'))
    assert allowed.passed
    assert allowed.unknown_claims == ("submods.container.labels",)


@pytest.mark.parametrize("value", [..., None, [], "x", 1])
def test_a_container_of_another_type_is_refused(claims: Any, changed: Any, red: Any, value: Any) -> None:
    assert "container_claims" in red(changed(claims, "submods.container", value))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("zone = ['us-central1-a']", "zone"),
        ("dbgstat = 'enabled'", "dbgstat"),
        ("[roles.operator]\nzones = ['x']", "roles.operator"),
        ("[roles.client]\ncontainer_claims_allowed = ['x']", "roles.client.container_claims_allowed"),
        ("image_digests = []", "image_digests"),
        ("container_claims_allowed = []", "container_claims_allowed"),
        ("image_digests = 'sha256:ab'", "image_digests"),
        (f"image_digests = ['{DIGEST}', 'latest']", "image_digests"),
        (f"image_digests = ['{DIGEST}\\n']", "image_digests"),
        ('zones = ["us-central1-a\\n"]', "zones"),
        ("hwmodels = ['GCP_SHIELDED_VM']", "hwmodels"),
        ("project_numbers = [297985297894]", "project_numbers"),
        ("maximum_token_age_seconds = '60'", "maximum_token_age_seconds"),
        ("maximum_token_age_seconds = 60.0", "maximum_token_age_seconds"),
        ("maximum_token_age_seconds = true", "maximum_token_age_seconds"),
        ("maximum_token_age_seconds = 0", "maximum_token_age_seconds"),
        ("maximum_token_age_seconds = 3601", "maximum_token_age_seconds"),
        ("zones = { a = 1 }", "zones"),
        ("zones = 2026-01-01", "zones"),
    ],
)
def test_a_wrong_policy_is_refused_and_the_member_named(load: Any, text: str, where: str) -> None:
    with pytest.raises(PolicyError, match=r"policy\.toml") as caught:
        load(text)
    assert where in str(caught.value)
    assert "correct the file" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "zones = ['a']\nzones = ['b']",
        "zones = [",
        b"\xff",
        b"# " + b"x" * POLICY_BYTES,
        "a = " + "[" * 10_000,
    ],
    ids=["duplicate", "cut", "not UTF-8", "too long", "deep"],
)
def test_what_is_not_toml_is_refused(load: Any, text: str | bytes) -> None:
    with pytest.raises(PolicyError):
        load(text)


def test_a_missing_policy_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="FileNotFoundError") as caught:
        load_policy(tmp_path / "policy.toml")
    assert isinstance(caught.value, BrokerError)


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Policy().zones = frozenset({"a"})
