"""Real claims, captured in public. They are not part of the project: MCBN_EVIDENCE names the folder that has them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcbn_broker.appraisal.accounting import unknown_claims
from mcbn_protocol.reference_values import ConfidentialSpaceReference, ValueRule

PRODUCTION = "gcs_pki_intel_tdx_prod_250800_oak"
PRODUCTION_2023 = "gcs_oidc_amd_sev_prod_230600_default_salrashid_tee_bootstrap"
DEBUG = "gcs_oidc_amd_sev_debug_251001_synddb_nonce"
PLAIN_VM = "gcvm_oidc_amd_sev_swname_GCE_google_docs"


@pytest.fixture
def captured(evidence: Path) -> Callable[[str], dict[str, Any]]:
    return lambda name: json.loads((evidence / "claims" / f"{name}.json").read_text())["claims"]


@pytest.fixture
def agreed(variant: Any) -> Callable[[dict[str, Any]], ConfidentialSpaceReference]:
    """Reference values of production that fit these claims in all that participants choose."""

    def build(claims: dict[str, Any]) -> ConfidentialSpaceReference:
        container = claims["submods"].get("container", {})
        overrides = container.get("env_override") or {}
        own = {
            name: value for name, value in (container.get("env") or {}).items() if name not in {*overrides, "HOSTNAME"}
        }
        return variant(
            image_digests=(container.get("image_digest", "sha256:none"),),
            args=tuple(container.get("args", ())),
            env=own,
            env_override={name: ValueRule(value, is_pattern=False) for name, value in overrides.items()},
            project_numbers=(claims["submods"]["gce"]["project_number"],),
            instance_ids=(claims["submods"]["gce"]["instance_id"],),
            service_accounts=tuple(claims["google_service_accounts"]),
        )

    return build


def test_a_real_production_token_passes(captured: Any, agreed: Any, red: Any) -> None:
    claims = captured(PRODUCTION)
    assert red(claims, agreed(claims)) == set()


def test_a_real_debug_token_fails_exactly_for_being_debug(captured: Any, agreed: Any, red: Any) -> None:
    claims = captured(DEBUG)
    assert red(claims, agreed(claims)) == {"dbgstat", "support_attributes"}


def test_a_real_plain_confidential_vm_is_refused(captured: Any, agreed: Any, judged: Any) -> None:
    claims = captured(PLAIN_VM)
    verdict = judged(claims, agreed(claims))
    failed = {check.name: check for check in verdict.failures}
    assert failed["swname"].found == '"GCE"'
    assert {"dbgstat", "support_attributes", "swname", "secboot", "image_digest", "args", "env"} <= failed.keys()


def test_a_real_token_of_2023_is_refused_for_what_it_lacks(captured: Any, agreed: Any, red: Any) -> None:
    claims = captured(PRODUCTION_2023)
    assert red(claims, agreed(claims)) == {"cmd_override", "monitoring_memory", "eat_profile"}


@pytest.mark.parametrize("name", [PRODUCTION, PRODUCTION_2023, DEBUG, PLAIN_VM])
def test_every_claim_of_the_real_shapes_is_accounted(captured: Any, name: str) -> None:
    assert unknown_claims(captured(name)) == ()
