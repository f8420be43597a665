"""Real tokens, captured in public. They are not part of the project: MCBN_EVIDENCE names the folder that has them."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.confidential_space import ConfidentialSpaceVerifier
from mcbn_broker.attestation.errors import NotAuthentic
from mcbn_broker.attestation.published_keys import key_set_url, parse_key_set
from mcbn_protocol.reference_values import PRODUCTION_ISSUER

DEBUG_TOKEN = "gcs_oidc_amd_sev_debug_251001_synddb_nonce.jwt"
PKI_TOKEN = "gcs_pki_intel_tdx_prod_250800_oak.jwt"
DEBUG_AUDIENCE = "https://synddb-sequencer.example.com"
DEBUG_NONCE = "sp1-test-nonce-1764708636"
DEBUG_ISSUED = 1764708636
GOOGLE = TrustAnchors(frozenset({PRODUCTION_ISSUER}), {})


class CapturedKeys:
    def __init__(self, jwks: dict[str, Any]) -> None:
        self.keys = parse_key_set(jwks)

    async def key(self, issuer: str, key_id: str) -> RSAPublicKey:
        assert issuer == PRODUCTION_ISSUER
        return self.keys[key_id]


@pytest.fixture
def captured(evidence: Path) -> ConfidentialSpaceVerifier:
    jwks = json.loads((evidence / "google_cs_jwks_20251202.json").read_text())
    return ConfidentialSpaceVerifier(CapturedKeys(jwks), maximum_age_seconds=300, leeway_seconds=60)


async def verify_debug_token(verifier: ConfidentialSpaceVerifier, evidence: Path, **changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "anchors": GOOGLE,
        "audience": DEBUG_AUDIENCE,
        "nonces": (DEBUG_NONCE,),
        "now": DEBUG_ISSUED + 10,
    } | changes
    return await verifier.verify((evidence / DEBUG_TOKEN).read_text().strip(), **arguments)


async def test_a_real_token_verifies_at_its_own_time(captured: ConfidentialSpaceVerifier, evidence: Path) -> None:
    result = await verify_debug_token(captured, evidence)
    assert result.instance_id == "6549194765718711860"
    assert result.claims["dbgstat"] == "enabled"


async def test_a_real_token_is_refused_for_anything_else(captured: ConfidentialSpaceVerifier, evidence: Path) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("token.age", {"now": DEBUG_ISSUED + 301}),
        ("token.expired", {"now": DEBUG_ISSUED + 3660}),
        ("token.not_yet_valid", {"now": DEBUG_ISSUED - 61}),
        ("token.audience", {"audience": DEBUG_AUDIENCE + "/"}),
        ("token.nonces", {"nonces": (DEBUG_NONCE, "another-nonce")}),
        ("token.issuer", {"anchors": TrustAnchors(frozenset({"http://127.0.0.1:8080"}), {})}),
    ]
    for check, changes in cases:
        with pytest.raises(NotAuthentic) as caught:
            await verify_debug_token(captured, evidence, **changes)
        assert caught.value.check == check


async def test_a_real_pki_token_is_not_taken_for_an_oidc_token(
    captured: ConfidentialSpaceVerifier, evidence: Path
) -> None:
    with pytest.raises(NotAuthentic) as caught:
        await captured.verify(
            (evidence / PKI_TOKEN).read_text().strip(),
            anchors=GOOGLE,
            audience="z08381475938604996746",
            nonces=("75a91c8dbe289f190d5e70ab1cb70c93cc14d7243f0ef3ff5326a622ead220a6",),
            now=1757060250,
        )
    assert caught.value.check == "token.header"


def test_the_real_discovery_document_is_accepted(evidence: Path) -> None:
    document = json.loads((evidence / "google_cs_openid_configuration_20251202.json").read_text())
    assert key_set_url(document, PRODUCTION_ISSUER).startswith("https://www.googleapis.com/")
