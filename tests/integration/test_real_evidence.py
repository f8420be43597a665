"""Real tokens from signature to verdict: verified at their own time, and appraised by what participants might agree on.

They are not part of the project: `MCBN_EVIDENCE` names the folder that has them.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from mcbn_broker.appraisal import Policy, Verdict, appraise
from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.confidential_space import ConfidentialSpaceVerifier
from mcbn_broker.attestation.published_keys import parse_key_set
from mcbn_broker.attestation.result import AttestationResult
from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import (
    GOOGLE_ROOT,
    PRODUCTION_ISSUER,
    ConfidentialSpaceReference,
    SupportAttribute,
    ValueRule,
)

PRODUCTION = "gcs_pki_intel_tdx_prod_250800_oak.jwt"
DEBUG = "gcs_oidc_amd_sev_debug_251001_synddb_nonce.jwt"


class Captured:
    """The key set that Google published then."""

    def __init__(self, folder: Path) -> None:
        self._keys = parse_key_set(json.loads((folder / "google_cs_jwks_20251202.json").read_text()))

    async def key(self, issuer: str, key_id: str) -> RSAPublicKey:
        assert issuer == PRODUCTION_ISSUER
        return self._keys[key_id]


def agreed(claims: Any, root: bytes | None) -> ConfidentialSpaceReference:
    """What participants write down who have built the image and know the operator."""
    container, gce = claims["submods"]["container"], claims["submods"]["gce"]
    overrides = container.get("env_override") or {}
    own = {name: value for name, value in container["env"].items() if name not in {*overrides, "HOSTNAME"}}
    return ConfidentialSpaceReference(
        issuer=PRODUCTION_ISSUER,
        root=root,
        image_digests=(container["image_digest"],),
        image_signatures=None,
        hwmodels=("GCP_AMD_SEV", "GCP_INTEL_TDX"),
        dbgstat="disabled-since-boot",
        support_attribute=SupportAttribute.STABLE,
        args=tuple(container["args"]),
        env=own,
        env_override={name: ValueRule(value, is_pattern=False) for name, value in overrides.items()},
        restart_policies=(container["restart_policy"],),
        monitoring_memory=False,
        project_numbers=(gce["project_number"],),
        instance_ids=(gce["instance_id"],),
        service_accounts=tuple(claims["google_service_accounts"]),
        insecure_debug=False,
    )


async def verified(folder: Path, name: str, anchors: TrustAnchors, audience: str, *nonces: str) -> AttestationResult:
    """Verify a token as if it had been asked for just now."""
    token = (folder / name).read_text().strip()
    captured = json.loads((folder / "claims" / name.replace(".jwt", ".json")).read_text())["claims"]
    verifier = ConfidentialSpaceVerifier(Captured(folder), maximum_age_seconds=300, leeway_seconds=60)
    result = await verifier.verify(
        token, anchors=anchors, audience=audience, nonces=nonces, now=int(captured["iat"]) + 10
    )
    assert dict(result.claims) == captured
    return result


def judged(result: AttestationResult, reference: ConfidentialSpaceReference) -> Verdict:
    return appraise(result, (reference,), Policy(), role=Role.CLIENT, now=int(result.claims["iat"]) + 10)


async def production(folder: Path) -> AttestationResult:
    anchors = TrustAnchors(frozenset(), {PRODUCTION_ISSUER: frozenset({GOOGLE_ROOT})})
    nonce = "75a91c8dbe289f190d5e70ab1cb70c93cc14d7243f0ef3ff5326a622ead220a6"
    return await verified(folder, PRODUCTION, anchors, "z08381475938604996746", nonce)


def test_googles_root_certificate_is_the_one_that_we_name(evidence: Path) -> None:
    pem = (evidence / "google_confidential_space_root.pem").read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    assert hashlib.sha256(der).digest() == GOOGLE_ROOT


async def test_the_real_production_token_verifies_to_the_pinned_root_and_is_green_in_every_check(
    evidence: Path,
) -> None:
    result = await production(evidence)
    verdict = judged(result, agreed(result.claims, GOOGLE_ROOT))
    assert verdict.passed
    assert [check.name for check in verdict.checks if not check.passed] == []
    assert verdict.unknown_claims == ()


async def test_the_real_production_token_does_not_meet_a_reference_value_without_its_root(evidence: Path) -> None:
    result = await production(evidence)
    verdict = judged(result, agreed(result.claims, None))
    assert [check.name for check in verdict.failures] == ["trust_anchor"]


async def test_the_real_debug_token_verifies_and_is_refused_for_being_debug(evidence: Path) -> None:
    anchors = TrustAnchors(frozenset({PRODUCTION_ISSUER}), {})
    audience, nonce = "https://synddb-sequencer.example.com", "sp1-test-nonce-1764708636"
    result = await verified(evidence, DEBUG, anchors, audience, nonce)
    verdict = judged(result, agreed(result.claims, None))
    assert {check.name for check in verdict.failures} == {"dbgstat", "support_attributes"}


@pytest.mark.parametrize("root", [None, GOOGLE_ROOT])
def test_a_production_issuer_and_root_are_no_simulation(root: bytes | None, evidence: Path) -> None:
    claims = json.loads((evidence / "claims" / PRODUCTION.replace(".jwt", ".json")).read_text())["claims"]
    assert not agreed(claims, root).simulated
