"""`policy lint`: what published samples forget, and nothing about what our own template writes."""

import json
from pathlib import Path
from typing import Any

import pytest

from mcbn_broker.ceremony.lint_rules import RULES, Severity
from mcbn_broker.errors import EXIT_CODES
from mcbn_protocol.reference_values import GOOGLE_ROOT

FINDINGS = EXIT_CODES["findings"].number

SAMPLE = """assertion.swname == 'CONFIDENTIAL_SPACE'
&& assertion.submods.container.image_reference == 'registry.example/app:latest'
&& assertion.hwmodel in ['GCP_AMD_SEV', 'GCP_SHIELDED_VM']
&& 'app@operator.iam.gserviceaccount.com' in assertion.google_service_accounts
"""
"""As published samples have it: no dbgstat, no STABLE, GCP_SHIELDED_VM allowed, env_override ignored."""

CAREFUL = """assertion.swname == 'CONFIDENTIAL_SPACE' && assertion.dbgstat == 'disabled-since-boot' && assertion.secboot
&& 'STABLE' in assertion.submods.confidential_space.support_attributes
&& assertion.hwmodel == 'GCP_INTEL_TDX' && assertion.tdx.gcp_attester_tcb_status == 'UpToDate'
&& assertion.submods.container.image_digest == 'sha256:aa' && assertion.submods.container.args == ['/app']
&& !has(assertion.submods.container.cmd_override) && !has(assertion.submods.container.env_override)
&& assertion.submods.gce.project_number == '1' && assertion.google_service_accounts == ['app@x.example']
&& assertion.aud == 'me' && assertion.eat_nonce == ['challenge']
"""


def lint(command: Any, path: Path, text: str | bytes) -> tuple[int, list[dict[str, str]]]:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    result = command("policy", "lint", path, "--output", "json")
    return result.status, json.loads(result.out)["findings"]


def ids(findings: list[dict[str, str]]) -> set[str]:
    return {one["rule"] for one in findings}


def test_a_policy_like_published_samples_is_flagged_on_each_count(command: Any, tmp_path: Path) -> None:
    status, findings = lint(command, tmp_path / "sample.cel", SAMPLE)
    assert status == FINDINGS
    assert {"debug-status", "support-attribute", "hardware-model", "environment-override"} <= ids(findings)
    assert ids(findings) == {
        *("debug-status", "support-attribute", "hardware-model", "environment-override", "secure-boot", "image-digest"),
        *("command-override", "arguments", "project-any", "service-accounts", "audience", "nonces"),
    }
    assert all(one["consequence"].endswith(".") and one["fix"] for one in findings)


def test_a_careful_condition_is_not_flagged(command: Any, tmp_path: Path) -> None:
    assert lint(command, tmp_path / "careful.cel", CAREFUL) == (0, [])


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (("assertion.dbgstat == 'disabled-since-boot'", "assertion.dbgstat == 'enabled'"), "debug-status"),
        (("'STABLE'", "'USABLE'"), "support-attribute"),
        (("assertion.hwmodel == 'GCP_INTEL_TDX' && ", "'GCP_INTEL_TDX' != '' && "), "hardware-model"),
        (("assertion.tdx.gcp_attester_tcb_status == 'UpToDate'", "true"), "tdx-status"),
        (("image_digest == 'sha256:aa'", "image_signatures[0].key_id == 'aa'"), "image-signature-only"),
        (("assertion.google_service_accounts == ['app@x.example']", "true"), "service-accounts-open"),
        (("== ['app@x.example']", ".exists(a, a == 'app@x.example')"), "service-accounts"),
        (("assertion.secboot", "true"), "secure-boot"),
    ],
)
def test_each_thing_forgotten_is_one_finding(command: Any, tmp_path: Path, change: tuple[str, str], rule: str) -> None:
    _, findings = lint(command, tmp_path / "one.cel", CAREFUL.replace(*change))
    assert ids(findings) == {rule}


@pytest.fixture
def template(command: Any) -> str:
    """Our own terms, filled in."""
    text = command("manifest", "template").out
    for role in ("CLIENT", "SERVER"):
        text = text.replace(f"FILL_IN_{role}_IMAGE_DIGEST", "sha256:" + role[0].lower().replace("s", "d") * 64)
        text = text.replace(f"FILL_IN_{role}_ENTRYPOINT", "/usr/bin/app")
    return text.replace("FILL_IN_PROJECT_NUMBER", "100000000001")


def test_our_own_template_has_no_warning(command: Any, tmp_path: Path, template: str) -> None:
    status, findings = lint(command, tmp_path / "terms.toml", template)
    assert status == 0
    assert ids(findings) == {"service-accounts-open"}
    assert {one["severity"] for one in findings} == {"note"}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (('dbgstat = "disabled-since-boot"', 'dbgstat = "enabled"'), "debug-status"),
        (('dbgstat = "disabled-since-boot"', ""), "debug-status"),
        (('support_attribute = "STABLE"', 'support_attribute = "USABLE"'), "support-attribute"),
        (('"GCP_AMD_SEV", ', '"GCP_SHIELDED_VM", '), "hardware-model"),
        (('hwmodels = ["GCP_AMD_SEV", "GCP_INTEL_TDX"]', ""), "hardware-model"),
        (('swname = "CONFIDENTIAL_SPACE"', 'swname = "GCE"'), "swname"),
        (("secboot = true", "secboot = false"), "secure-boot"),
        (("image_digests = [", "other_digests = ["), "image-digest"),
        (('project_numbers = ["100000000001"]', 'project_numbers = "any"'), "project-any"),
        (('{ pattern = "*:*" }', '{ pattern = "*" }'), "environment-override"),
        (('{ pattern = "*:*" }', '"anything"'), "environment-override"),
        (('args = ["/usr/bin/app"]', "args = []"), "arguments"),
        (("secboot = true", 'secboot = true\ncmd_override = ["sh"]'), "command-override"),
        (("secboot = true", "secboot = true\ninsecure_debug = true"), "insecure-term"),
        (('restart_policies = ["Never"]', 'restart_policies = ["Always"]'), "restart-policy"),
        (("monitoring_memory = false", "monitoring_memory = true"), "monitoring"),
        (('issuer = "https://confidentialcomputing.googleapis.com"', 'issuer = "http://127.0.0.1:1"'), "issuer"),
        (("secboot = true", f'secboot = true\nroot = "{"ab" * 32}"'), "root"),
        (("valid_days = 30", "valid_days = 30\nkey_log = true"), "key-log"),
        (("lease_seconds = 3600", "lease_seconds = 864000"), "long-lease"),
        (("valid_days = 30", "valid_days = 700"), "long-validity"),
        (("overlap_seconds = 86400", "overlap_seconds = 8640000"), "long-overlap"),
        (("instances = 1 ", "instances = 1000 "), "many-instances"),
        (("valid_days = 30", "valid_days = 30\ninsecure_http = true"), "insecure-term"),
    ],
)  # fmt: skip
def test_each_weakness_of_the_terms_is_one_finding(
    command: Any, tmp_path: Path, template: str, change: tuple[str, str], rule: str
) -> None:
    assert change[0] in template
    status, findings = lint(command, tmp_path / "terms.toml", template.replace(*change))
    assert ids(findings) - {"service-accounts-open"} == {rule}
    assert status == (0 if RULES[rule].severity is Severity.NOTE else FINDINGS)


def test_googles_own_root_is_no_finding(command: Any, tmp_path: Path, template: str) -> None:
    text = template.replace("secboot = true", f'secboot = true\nroot = "{GOOGLE_ROOT.hex()}"')
    assert ids(lint(command, tmp_path / "terms.toml", text)[1]) == {"service-accounts-open"}


def test_signers_instead_of_digests_are_a_warning(command: Any, tmp_path: Path, template: str) -> None:
    text = template.replace("image_digests = [", 'image_signatures = [{ key_id = "x" }]\nother = [')
    assert "image-signature-only" in ids(lint(command, tmp_path / "terms.toml", text)[1])


@pytest.mark.parametrize("bundle", [True, False])
def test_a_manifest_is_read_signed_or_not(command: Any, tmp_path: Path, bundle: bool) -> None:
    payload = {
        "valid_from": 0, "valid_until": 10**9, "mutual_tls": {"insecure_shared_key": True},
        "roles": {"client": {"evidence": [{}]}, "server": {"evidence": "junk"}, "other": 5},
    }  # fmt: skip
    text = json.dumps({"payload": payload, "signatures": []} if bundle else payload)
    status, findings = lint(command, tmp_path / "manifest.json", text)
    assert status == FINDINGS
    assert {"debug-status", "image-digest", "long-validity", "insecure-term"} <= ids(findings)
    assert {one["where"] for one in findings} >= {"roles.client.evidence[1]", "roles.server.evidence[1]"}


def test_a_policy_file(command: Any, tmp_path: Path) -> None:
    text = (
        'container_claims_allowed = ["new"]\nconditions = ["assertion.hwmodel != \'GCP_SHIELDED_VM\'", "true"]\n'
        "[roles.client]\nconditions = [\"'a@b.example' in assertion.google_service_accounts\"]\n"
    )
    status, findings = lint(command, tmp_path / "policy.toml", text)
    assert status == FINDINGS
    assert ids(findings) == {"token-age", "unknown-container-claims", "hardware-model", "service-accounts"}
    assert lint(command, tmp_path / "policy.toml", "maximum_token_age_seconds = 60\n") == (0, [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('project_number = ["1"]\nmaximum_token_age_seconds = 300\n', "project_number"),
        ("[deny]\nfoo = 1\n", "deny"),
        ('conditions = ["assertion.foo ==="]\n', "condition 1"),
    ],
)
def test_a_policy_that_serve_would_refuse_is_refused_here_too(
    command: Any, tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    result = command("policy", "lint", path)
    assert result.status == EXIT_CODES["usage"].number
    assert problem in result.err


def test_a_table_for_people(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "sample.cel"
    path.write_text(SAMPLE)
    result = command("policy", "lint", path)
    assert "debug-status" in result.out
    assert "1 looked at: " in result.err
    path.write_text(CAREFUL)
    assert not command("policy", "lint", path).out


@pytest.mark.parametrize("data", [b"\xff", b"= =", b"{", b"{}x", b"[" * 5000])
def test_what_is_none_of_these_is_an_error(command: Any, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "junk.toml").write_bytes(data)
    result = command("policy", "lint", tmp_path / "junk.toml")
    assert result.status == EXIT_CODES["refused"].number
    assert "junk.toml" in result.err


def test_every_rule_is_found_by_a_test() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [rule for rule in RULES if f'"{rule}"' not in text] == []
