"""The checks of a Confidential Space token against a reference value, most dangerous first, one function for each."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mcbn_broker.appraisal.findings import (
    MISSING,
    Claims,
    Finding,
    described,
    empty,
    exactly,
    later,
    one_of,
    same_strings,
    shaped,
    string_map,
    strings,
)
from mcbn_protocol.reference_values import HOSTNAME, ConfidentialSpaceReference, SupportAttribute

GOOGLE_OEMID: Final = 11129  # Google's IANA private enterprise number (RFC 9711 section 4.2.3)
EAT_PROFILE: Final = "https://cloud.google.com/confidential-computing/confidential-space/docs/reference/token-claims"
_TDX: Final = "GCP_INTEL_TDX"
_DIGITS: Final = re.compile(r"[0-9]{1,32}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_VERSION: Final = re.compile(r"[0-9A-Za-z._-]{1,32}")
_SUPPORT_RANKS: Final = (SupportAttribute.EXPERIMENTAL, SupportAttribute.USABLE, SupportAttribute.STABLE)


@dataclass(frozen=True)
class Check:
    """One check of a token.

    Attributes:
        name: Stable, unique; goes into refusals and the audit.
        claims: The paths that it reads, the one it is about first.
        why: Why it matters, in one sentence.
        judge: Compares; it is total: no value of any claim makes it raise.
    """

    name: str
    claims: tuple[str, ...]
    why: str
    judge: Callable[[Claims, ConfidentialSpaceReference], Finding]


TRUST_ANCHOR_NAME: Final = "trust_anchor"
TRUST_ANCHOR_WHY: Final = "A reference value trusts either the issuer's published keys or one root certificate."


def trust_anchor(root: bytes | None, reference: ConfidentialSpaceReference) -> Finding:
    """Compare what vouched for the token's signature with what the reference value trusts.

    Args:
        root: SHA-256 of the pinned root certificate of a PKI token; None for an OIDC token.
        reference: The reference value.
    """
    return Finding(root == reference.root, lambda: _anchor(reference.root), lambda: _anchor(root))


def _anchor(root: bytes | None) -> str:
    return "the issuer's published key set" if root is None else f"root certificate {root.hex()}"


def _image_digest(claims: Claims, reference: ConfidentialSpaceReference) -> Finding:
    found = claims.at("submods.container.image_digest")
    if reference.image_digests:
        return one_of(found, reference.image_digests)
    return shaped(found, _DIGEST, "any: image_signatures decides")


def _image_signatures(claims: Claims, reference: ConfidentialSpaceReference) -> Finding:
    """The service leaves a signature out that does not verify, so one with an agreed key must be there."""
    found = claims.at("submods.container.image_signatures")
    if reference.image_signatures is None:
        return Finding(True, "any: image_digest decides", later(found))
    signers = {(one.key_id, one.algorithm.value) for one in reference.image_signatures}
    signatures = found if isinstance(found, list) else []
    pairs = [(one.get("key_id"), one.get("signature_algorithm")) for one in signatures if isinstance(one, dict)]
    signed = any(isinstance(key, str) and isinstance(name, str) and (key, name) in signers for key, name in pairs)
    return Finding(signed, lambda: f"one by {described(sorted(signers))}", later(found))


def _support_attributes(claims: Claims, reference: ConfidentialSpaceReference) -> Finding:
    found = claims.at("submods.confidential_space.support_attributes")
    lowest = reference.support_attribute
    if lowest is SupportAttribute.NONE:
        return Finding(found is MISSING or strings(found) is not None, "any, or none", later(found))
    enough = _SUPPORT_RANKS[_SUPPORT_RANKS.index(lowest) :]
    return Finding(bool(set(strings(found) or ()).intersection(enough)), f"{lowest.value} or better", later(found))


def _env_override(claims: Claims, reference: ConfidentialSpaceReference) -> Finding:
    found = claims.at("submods.container.env_override")
    if not reference.env_override or empty(found).passed:
        return empty(found)
    rules = reference.env_override
    overrides = string_map(found)
    admitted = overrides is not None and all(
        name in rules and rules[name].admits(value) for name, value in overrides.items()
    )
    return Finding(admitted, lambda: f"only {described({n: r.text for n, r in rules.items()})}", later(found))


def _env(claims: Claims, reference: ConfidentialSpaceReference) -> Finding:
    """The claim repeats the overrides and adds HOSTNAME, so the image's own environment never stands there alone."""
    claim = claims.at("submods.container.env")
    found = string_map(claim)
    host = claims.at("submods.gce.instance_name")
    meaning = "the image's own, with the overrides, and HOSTNAME = submods.gce.instance_name"
    if found is None or not isinstance(host, str):
        return Finding(False, meaning, described(claim) if found is None else f"instance_name {described(host)}")
    overrides = string_map(claims.at("submods.container.env_override")) or {}
    expected = {**reference.env, **overrides, HOSTNAME: host}
    differing = {name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)}
    if not differing:
        return Finding(True, meaning, "the same")
    return Finding(
        False, *(described({n: side[n] for n in sorted(differing) if n in side}) for side in (expected, found))
    )


def _project_number(claims: Claims, reference: ConfidentialSpaceReference) -> Finding:
    found = claims.at("submods.gce.project_number")
    return one_of(found, reference.project_numbers) if reference.project_numbers else shaped(found, _DIGITS, "any")


def _instance_id(claims: Claims, reference: ConfidentialSpaceReference) -> Finding:
    found = claims.at("submods.gce.instance_id")
    return shaped(found, _DIGITS, "any") if reference.instance_ids is None else one_of(found, reference.instance_ids)


def _service_accounts(claims: Claims, reference: ConfidentialSpaceReference) -> Finding:
    """The whole list: one account more is one more identity with which the workload may act."""
    found = claims.at("google_service_accounts")
    accounts = strings(found)
    if reference.service_accounts is None:
        return Finding(accounts is not None, "any", later(found))
    expected = sorted(reference.service_accounts)
    return Finding(accounts is not None and sorted(accounts) == expected, later(expected), later(found))


def _tdx(claims: Claims, _reference: ConfidentialSpaceReference) -> Finding:
    """Google documents a list; real tokens have an object. Both are read, and every part must be up to date."""
    found = claims.at("tdx")
    if claims.at("hwmodel") != _TDX:
        return Finding(found is MISSING, "absent without TDX", later(found))
    modules = found if isinstance(found, list) else [found]
    up_to_date = bool(modules) and all(
        isinstance(module, dict) and module.get("gcp_attester_tcb_status") == "UpToDate" for module in modules
    )
    return Finding(up_to_date, "gcp_attester_tcb_status UpToDate", later(found))


def _attester_tcb(claims: Claims, _reference: ConfidentialSpaceReference) -> Finding:
    found = claims.at("attester_tcb")
    if claims.at("hwmodel") != _TDX:
        return Finding(found is MISSING, "absent without TDX", later(found))
    return same_strings(found, ["INTEL"])


def _nvidia_gpu(claims: Claims, _reference: ConfidentialSpaceReference) -> Finding:
    gpu = claims.at("submods.nvidia_gpu")
    if gpu is MISSING:
        return Finding(True, "absent, or cc_mode ON", later(gpu))
    return exactly(claims.at("submods.nvidia_gpu.cc_mode"), "ON")


def _swversion(claims: Claims, _reference: ConfidentialSpaceReference) -> Finding:
    found = claims.at("swversion")
    versions = strings(found) or []
    return Finding(
        len(versions) == 1 and _VERSION.fullmatch(versions[0]) is not None, "a list of one version", later(found)
    )


CHECKS: Final = (
    Check(
        "issuer", ("iss",),
        "Each reference value trusts one attestation service; another's word does not count.",
        lambda claims, reference: exactly(claims.at("iss"), reference.issuer),
    ),
    Check(
        "dbgstat", ("dbgstat",),
        "On a debug image the operator can log in and read shares and keys.",
        lambda claims, reference: exactly(claims.at("dbgstat"), reference.dbgstat),
    ),
    Check(
        "support_attributes", ("submods.confidential_space.support_attributes",),
        "Google withdraws the attribute from images with known holes, and debug images never have it.",
        _support_attributes,
    ),
    Check(
        "swname", ("swname",),
        "A plain Confidential VM has tokens of the same issuer and key, but its operator runs what he likes in it.",
        lambda claims, reference: exactly(claims.at("swname"), reference.swname),
    ),
    Check(
        "secboot", ("secboot",),
        "Without secure boot the measured image need not be the one that runs.",
        lambda claims, reference: exactly(claims.at("secboot"), reference.secboot),
    ),
    Check(
        "hwmodel", ("hwmodel",),
        "Hardware without memory encryption shows the operator everything.",
        lambda claims, reference: one_of(claims.at("hwmodel"), reference.hwmodels),
    ),
    Check(
        "image_digest", ("submods.container.image_digest",),
        "The digest is the program that the participants agreed on.",
        _image_digest,
    ),
    Check(
        "image_signatures", ("submods.container.image_signatures",),
        "A signature by an agreed key says who made the image, where the digest does not, or besides it.",
        _image_signatures,
    ),
    Check(
        "args", ("submods.container.args",),
        "Arguments choose role, configuration and program without changing the digest.",
        lambda claims, reference: same_strings(claims.at("submods.container.args"), reference.args),
    ),
    Check(
        "cmd_override", ("submods.container.cmd_override",),
        "The operator can replace the image's command without changing the digest.",
        lambda claims, _reference: empty(claims.at("submods.container.cmd_override")),
    ),
    Check(
        "env_override", ("submods.container.env_override",),
        "The operator can steer the program through its environment without changing the digest.",
        _env_override,
    ),
    Check(
        "env", ("submods.container.env", "submods.container.env_override", "submods.gce.instance_name"),
        "What the program really got as environment must be the image's own and the admitted overrides.",
        _env,
    ),
    Check(
        "project_number", ("submods.gce.project_number",),
        "Another project is another operator.",
        _project_number,
    ),
    Check(
        "instance_id", ("submods.gce.instance_id",),
        "Leases are counted by VM, and a participant may have agreed to certain VMs only.",
        _instance_id,
    ),
    Check(
        "service_accounts", ("google_service_accounts",),
        "Service accounts decide what else the workload may reach, and who may reach it.",
        _service_accounts,
    ),
    Check(
        "tdx", ("tdx", "hwmodel"),
        "A TDX module that is out of date has published holes.",
        _tdx,
    ),
    Check(
        "attester_tcb", ("attester_tcb", "hwmodel"),
        "On TDX the evidence must come from Intel's hardware and not from a software TPM.",
        _attester_tcb,
    ),
    Check(
        "nvidia_gpu", ("submods.nvidia_gpu",),
        "A GPU outside of confidential mode reads and writes unencrypted memory.",
        _nvidia_gpu,
    ),
    Check(
        "restart_policy", ("submods.container.restart_policy",),
        "Who may restart the workload at will may probe it at will.",
        lambda claims, reference: one_of(claims.at("submods.container.restart_policy"), reference.restart_policies),
    ),
    Check(
        "monitoring_memory", ("submods.confidential_space.monitoring_enabled.memory",),
        "Monitoring shows the operator how the workload uses memory.",
        lambda claims, reference: exactly(
            claims.at("submods.confidential_space.monitoring_enabled.memory"), reference.monitoring_memory
        ),
    ),
    Check(
        "oemid", ("oemid",),
        "Only Google's platform gives the other claims the meaning that they have here.",
        lambda claims, _reference: exactly(claims.at("oemid"), GOOGLE_OEMID),
    ),
    Check(
        "eat_profile", ("eat_profile",),
        "The profile says which document defines the claims; under another they may mean something else.",
        lambda claims, _reference: exactly(claims.at("eat_profile"), EAT_PROFILE),
    ),
    Check(
        "swversion", ("swversion",),
        "The audit must be able to say which Confidential Space image ran.",
        _swversion,
    ),
)  # fmt: skip
"""Every check against a reference value. `policy_checks` adds the participant's own."""
