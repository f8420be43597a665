"""What the audit keeps of a request and of the workload that made it; never a token, share or key."""

from collections.abc import Mapping, Sequence
from typing import Final

from mcbn_broker.appraisal.verdict import CheckResult
from mcbn_broker.attestation.result import AttestationResult
from mcbn_protocol.encoding import JsonObject, JsonValue, b64u_encode
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.messages import ReleaseRequest

_TEXT_CHARS: Final = 256
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
    """Return what a refusal's record says of the checks that failed."""
    checks: list[JsonValue] = [
        {"name": one.name, "expected": one.expected[:_TEXT_CHARS], "found": one.found[:_TEXT_CHARS]} for one in failures
    ]
    return {"failed_checks": checks}


def _claim(claims: Mapping[str, object], path: tuple[str, ...]) -> str | None:
    value: object = claims
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value[:_TEXT_CHARS] if isinstance(value, str) else None
