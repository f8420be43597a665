"""What the audit keeps of a request and of the workload that made it; never a token, share or key."""

from collections.abc import Mapping, Sequence
from typing import Final

from mcbn_broker.appraisal.verdict import CheckResult
from mcbn_broker.attestation.result import AttestationResult
from mcbn_protocol.encoding import JsonObject, JsonValue, b64u_encode
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.messages import ReleaseRequest

_TEXT_CHARS: Final = 256
_CHECKS_KEPT: Final = 3
_NAMES_KEPT: Final = 8
_NAME_CHARS: Final = 128
_CLAIMS: Final = {
    "image_digest": ("submods", "container", "image_digest"),
    "hwmodel": ("hwmodel",),
    "project_id": ("submods", "gce", "project_id"),
    "project_number": ("submods", "gce", "project_number"),
}


def request_facts(
    request: ReleaseRequest, agreed: AgreedManifest, *, binding: bytes, correlation_id: str
) -> JsonObject:
    """Return what a record says of the request."""
    return {
        "epoch": agreed.manifest.epoch,
        "manifest_hash": agreed.hash.hex(),
        "role": request.role.value,
        "challenge": request.challenge,
        "binding": b64u_encode(binding),
        "kem": request.kem.value,
        "correlation_id": correlation_id,
    }


def workload_facts(result: AttestationResult) -> JsonObject:
    """Return what a record says of the workload: authentic claims, cut to 256 characters each."""
    facts: JsonObject = {name: _claim(result.claims, path) for name, path in _CLAIMS.items()}
    return facts | {"issuer": result.issuer, "instance_id": result.instance_id[:_TEXT_CHARS]}


def failed_checks(failures: Sequence[CheckResult]) -> JsonObject:
    """Return what a refusal's record says of the checks that failed: how many, and the most dangerous three."""
    checks: list[JsonValue] = [
        {"name": one.name, "expected": one.expected[:_TEXT_CHARS], "found": one.found[:_TEXT_CHARS]}
        for one in failures[:_CHECKS_KEPT]
    ]
    return {"failed_checks": checks, "failed_checks_count": len(failures)}


def alarming_claims(names: Sequence[str]) -> JsonObject:
    """Return what a record says of claims that this program does not know: how many, and the first few names."""
    kept: list[JsonValue] = [name[:_NAME_CHARS] for name in names[:_NAMES_KEPT]]
    return {"unknown_claims": kept, "unknown_claims_count": len(names)}


def _claim(claims: Mapping[str, object], path: tuple[str, ...]) -> str | None:
    value: object = claims.get(path[0])
    for name in path[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    return value[:_TEXT_CHARS] if isinstance(value, str) else None
