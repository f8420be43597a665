"""Finds what a manifest, its terms, a policy or a CEL condition forgets. It reads leniently, and decides nothing.

The rules are what published verifiers of Confidential Space tokens forget most often, and what makes an agreement weak.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mcbn_broker.ceremony.lint_rules import RULES, Rule
from mcbn_broker.errors import CeremonyError
from mcbn_protocol.reference_values import DBGSTAT_PRODUCTION, GOOGLE_ROOT, PRODUCTION_ISSUER, SWNAME

_DAY: Final = 24 * 3600
_LEASE_LONG: Final = _DAY
_VALID_LONG: Final = 366 * _DAY
_OVERLAP_LONG: Final = 7 * _DAY
_INSTANCES_MANY: Final = 100


@dataclass(frozen=True)
class Finding:
    """A rule that a document breaks, and where."""

    rule: Rule
    where: str


def lint_text(name: str, data: bytes) -> list[Finding]:
    """Look at one document.

    Args:
        name: The file's name: `*.cel` is a condition; the rest is told apart by its content.
        data: Its bytes: a manifest (draft or bundle, JSON), a terms file or a policy (TOML), or a condition.

    Raises:
        CeremonyError: It is none of these.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CeremonyError(f"{name}: not UTF-8") from error
    if name.endswith(".cel"):
        return list(_alone(text, "condition"))
    return list(_document(_parsed(name, text)))


def is_policy(name: str, data: bytes) -> bool:
    """Whether a document that `lint_text` took is looked at as a `policy.toml`, which `serve` would have to read."""
    if name.endswith(".cel") or data.lstrip().startswith(b"{"):
        return False
    value = _parsed(name, data.decode("utf-8"))
    return not _evidences(value) and "lease_seconds" not in value


def _parsed(name: str, text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise CeremonyError(f"{name}: neither a manifest (JSON), nor terms or a policy (TOML), nor *.cel") from error
    if not isinstance(value, dict):
        raise CeremonyError(f"{name}: an object is expected")
    payload = value.get("payload", value)
    return payload if isinstance(payload, dict) else value


def _document(value: Mapping[str, Any]) -> Iterator[Finding]:
    evidence = _evidences(value)
    if not evidence:
        yield from _policy(value, "policy")
        return
    yield from _terms(value)
    for where, list_of in evidence:
        for number, one in enumerate(list_of if isinstance(list_of, list) else [list_of], start=1):
            yield from _evidence(one if isinstance(one, dict) else {}, f"{where}[{number}]")


def _evidences(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the reference values of each role that has some, and where they stand."""
    roles = value.get("roles")
    return [
        (f"roles.{role}.evidence", terms["evidence"])
        for role, terms in (roles.items() if isinstance(roles, dict) else ())
        if isinstance(terms, dict) and "evidence" in terms
    ]


def _broken(rule: str, where: str, *, when: bool) -> Iterator[Finding]:
    if when:
        yield Finding(RULES[rule], where)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _terms(value: Mapping[str, Any]) -> Iterator[Finding]:
    validity = _number(value.get("valid_until")) - _number(value.get("valid_from"))
    validity = max(validity if "valid_from" in value else 0, _number(value.get("valid_days")) * _DAY)
    yield from _insecure(value, "manifest")
    yield from _broken("key-log", "manifest.key_log", when=bool(value.get("key_log")))
    yield from _insecure(value.get("mutual_tls"), "manifest.mutual_tls")
    yield from _broken("long-lease", "lease_seconds", when=_number(value.get("lease_seconds")) > _LEASE_LONG)
    yield from _broken("long-validity", "valid_until", when=validity > _VALID_LONG)
    yield from _broken("long-overlap", "overlap_seconds", when=_number(value.get("overlap_seconds")) > _OVERLAP_LONG)
    roles: Mapping[str, Any] = value["roles"]
    for role, terms in roles.items():
        many = isinstance(terms, dict) and _number(terms.get("instances")) > _INSTANCES_MANY
        yield from _broken("many-instances", f"roles.{role}.instances", when=many)


def _insecure(value: object, where: str) -> Iterator[Finding]:
    members: dict[str, Any] = value if isinstance(value, dict) else {}
    for name in sorted(members):
        yield from _broken(
            "insecure-term", f"{where}.{name}", when=name.startswith("insecure_") and bool(members[name])
        )


def _evidence(one: Mapping[str, Any], where: str) -> Iterator[Finding]:
    models, projects = _texts(one.get("hwmodels")), _texts(one.get("project_numbers"))
    digests, signers = _texts(one.get("image_digests")), one.get("image_signatures")
    issuer = one.get("issuer")
    broken = {
        "issuer": issuer != PRODUCTION_ISSUER,
        "root": one.get("root", GOOGLE_ROOT.hex()) != GOOGLE_ROOT.hex(),
        "debug-status": one.get("dbgstat") != DBGSTAT_PRODUCTION,
        "support-attribute": one.get("support_attribute") != "STABLE",
        "swname": one.get("swname") != SWNAME,
        "secure-boot": one.get("secboot") is not True,
        "hardware-model": not models or "GCP_SHIELDED_VM" in models,
        "image-digest": not digests and not signers,
        "image-signature-only": not digests and bool(signers),
        "environment-override": not _overrides_are_narrow(one.get("env_override")),
        "command-override": bool(one.get("cmd_override")),
        "arguments": not _texts(one.get("args")),
        "project-any": not projects,
        "service-accounts-open": not one.get("service_accounts"),
        "restart-policy": "Always" in _texts(one.get("restart_policies")),
        "monitoring": one.get("monitoring_memory") is True,
    }
    for rule, when in broken.items():
        yield from _broken(rule, where, when=when)
    yield from _insecure(one, where)


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _overrides_are_narrow(value: object) -> bool:
    """Whether each override is a value or a pattern that leaves something fixed. A log level may be anything."""
    if not isinstance(value, dict):
        return False
    return all(
        isinstance(rule, dict)
        and (name == "MCBN_LOG_LEVEL" or str(rule.get("value", rule.get("pattern", "*"))).strip("*"))
        for name, rule in value.items()
    )


def _policy(value: Mapping[str, Any], where: str) -> Iterator[Finding]:
    roles = value.get("roles")
    tables = [(where, value)]
    tables += [
        (f"roles.{name}", one)
        for name, one in (roles.items() if isinstance(roles, dict) else ())
        if isinstance(one, dict)
    ]
    yield from _broken("token-age", where, when=not any("maximum_token_age_seconds" in table for _, table in tables))
    yield from _broken("unknown-container-claims", where, when=bool(value.get("container_claims_allowed")))
    for place, table in tables:
        for number, text in enumerate(_texts(table.get("conditions")), start=1):
            yield from _lax_condition(text, f"{place}.conditions[{number}]")


_WHOLE: Final = re.compile(r"in\s+assertion\.google_service_accounts|google_service_accounts\s*\.\s*exists\s*\(")


def _lax_condition(text: str, where: str) -> Iterator[Finding]:
    """What a condition says that it should not."""
    yield from _broken("hardware-model", where, when="GCP_SHIELDED_VM" in text)
    yield from _broken("debug-status", where, when="dbgstat" in text and DBGSTAT_PRODUCTION not in text)
    yield from _broken("service-accounts", where, when=_WHOLE.search(text) is not None)
    yield from _broken("image-digest", where, when="image_reference" in text and "image_digest" not in text)


def _alone(text: str, where: str) -> Iterator[Finding]:
    """What a condition that stands alone forgets, as in workload identity federation."""
    mentioned = set(re.findall(r"assertion\.([A-Za-z_][\w.]*)", text))

    def names(path: str) -> bool:
        return any(one == path or one.startswith(f"{path}.") for one in mentioned)

    found = {finding.rule.id: finding for finding in _lax_condition(text, where)}
    container = "submods.container"
    forgotten = {
        "debug-status": DBGSTAT_PRODUCTION not in text,
        "support-attribute": "STABLE" not in text or not names("submods.confidential_space.support_attributes"),
        "hardware-model": not names("hwmodel"),
        "swname": SWNAME not in text,
        "secure-boot": not names("secboot"),
        "image-digest": not names(f"{container}.image_digest") and not names(f"{container}.image_signatures"),
        "image-signature-only": names(f"{container}.image_signatures") and not names(f"{container}.image_digest"),
        "environment-override": not names(f"{container}.env_override") and not names(f"{container}.env"),
        "command-override": not names(f"{container}.cmd_override"),
        "arguments": not names(f"{container}.args"),
        "project-any": not names("submods.gce.project_number"),
        "service-accounts-open": not names("google_service_accounts"),
        "audience": not names("aud"),
        "nonces": not names("eat_nonce"),
        "tdx-status": "GCP_INTEL_TDX" in text and not names("tdx"),
    }
    found |= {rule: Finding(RULES[rule], where) for rule, missing in forgotten.items() if missing}
    yield from (found[rule] for rule in RULES if rule in found)
