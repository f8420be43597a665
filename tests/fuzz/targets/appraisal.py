"""Claims of a genuine token, whatever they are: appraisal and every condition return a verdict, and words for it."""

from contextlib import suppress
from typing import Any

from mcbn_broker.appraisal import Policy, appraise
from mcbn_broker.attestation.result import AttestationResult
from mcbn_broker.attestation.strict_json import NotStrictJsonError, parse_object
from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import EvidenceKind
from tests.fuzz.material import NOW, compact
from tests.fuzz.targets.condition_text import CONDITIONS
from tests.fuzz.tokens import CLAIM_WORDS, ISSUER, claims, reference

JSON = True
WORDS = CLAIM_WORDS
REFERENCE = reference()
STRICT = Policy.model_validate(
    {
        "conditions": list(CONDITIONS),
        "hwmodels": ["GCP_AMD_SEV"],
        "zones": ["europe-west4-a"],
        "service_accounts": ["a@b.example"],
        "maximum_token_age_seconds": 60,
    }
)


def seeds() -> list[bytes]:
    tdx = claims() | {"hwmodel": "GCP_INTEL_TDX", "tdx": [{"gcp_attester_tcb_status": "UpToDate"}]}
    gpu = claims()
    gpu["submods"] |= {"nvidia_gpu": {"cc_mode": "ON"}}
    gpu["submods"]["container"] |= {"image_signatures": [{"key_id": "ab" * 32, "signature_algorithm": "x"}]}
    return [compact(one) for one in (claims(), claims(Role.SERVER), tdx, gpu, {})]


def target(data: bytes) -> None:
    with suppress(NotStrictJsonError):
        said = parse_object(data)
        result = AttestationResult(EvidenceKind.CONFIDENTIAL_SPACE, ISSUER, None, said)
        for policy in (Policy(), STRICT):
            judge(result, policy)


def judge(result: AttestationResult, policy: Policy) -> None:
    verdict = appraise(result, (REFERENCE, reference(Role.SERVER)), policy, role=Role.CLIENT, now=NOW)
    for check in verdict.checks:
        assert check.expected.isprintable()
        assert check.found.isprintable()
    if verdict.passed:
        said: Any = result.claims
        assert (said["swname"], said["dbgstat"]) == ("CONFIDENTIAL_SPACE", "disabled-since-boot")
        assert said["secboot"] is True
        assert result.instance_id.isdigit()
