import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcbn_simulator.claims import claims_for
from mcbn_simulator.errors import MachineError, ServiceError
from mcbn_simulator.machine import SimulatedMachine

Altered = Callable[..., SimulatedMachine]
NONCES = ["challenge-of-the-broker", "binding-of-the-recipient-key"]


def claims_of(machine: SimulatedMachine, nonces: list[str] | None = None) -> dict[str, Any]:
    return claims_for(
        machine, issuer="http://issuer.test", audience="mcbn:v1:test", nonces=nonces or [], now=1_800_000_000.9
    )


def test_registered_claims(machine: SimulatedMachine) -> None:
    claims = claims_of(machine)
    assert claims["iss"] == "http://issuer.test"
    assert claims["aud"] == "mcbn:v1:test"
    assert claims["iat"] == claims["nbf"] == 1_800_000_000
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["sub"] == (
        "https://www.googleapis.com/compute/v1/projects/mcbn-simulated/zones/us-central1-a/instances/simulated-vm"
    )
    assert all(type(claims[name]) is int for name in ("iat", "nbf", "exp", "oemid"))


def test_tdx_production(machine: SimulatedMachine) -> None:
    claims = claims_of(machine)
    assert claims["hwmodel"] == "GCP_INTEL_TDX"
    assert claims["attester_tcb"] == ["INTEL"]
    assert set(claims["tdx"]) == {"gcp_attester_tcb_status", "gcp_attester_tcb_date"}
    assert claims["secboot"] is True
    assert claims["oemid"] == 11129
    assert claims["swname"] == "CONFIDENTIAL_SPACE"
    assert claims["swversion"] == ["260300"]
    assert claims["dbgstat"] == "disabled-since-boot"
    assert claims["submods"]["confidential_space"] == {
        "support_attributes": ["LATEST", "STABLE", "USABLE"],
        "monitoring_enabled": {"memory": False},
    }
    assert claims["google_service_accounts"] == ["100000000001-compute@developer.gserviceaccount.com"]


def test_sev_has_no_tdx_claims(altered: Altered) -> None:
    claims = claims_of(altered(hwmodel="GCP_AMD_SEV"))
    assert claims["hwmodel"] == "GCP_AMD_SEV"
    assert not {"tdx", "attester_tcb"} & claims.keys()


def test_debug_image_has_no_support_attributes(altered: Altered) -> None:
    claims = claims_of(altered(debug=True))
    assert claims["dbgstat"] == "enabled"
    assert claims["swname"] == "CONFIDENTIAL_SPACE"
    assert claims["submods"]["confidential_space"] == {"monitoring_enabled": {"memory": False}}


@pytest.mark.parametrize(("nonces", "expected"), [(NONCES[:1], NONCES[0]), (NONCES, NONCES)])
def test_one_nonce_is_a_string_and_several_are_a_list(
    machine: SimulatedMachine, nonces: list[str], expected: object
) -> None:
    assert claims_of(machine, nonces)["eat_nonce"] == expected


def test_no_nonce_is_no_claim(machine: SimulatedMachine) -> None:
    assert "eat_nonce" not in claims_of(machine)


@pytest.mark.parametrize("nonces", [["n" * 10], ["n" * 74], ["n" * 10] * 6, ["é" * 37]])
def test_nonces_within_the_limits(machine: SimulatedMachine, nonces: list[str]) -> None:
    assert claims_of(machine, nonces)["eat_nonce"] == (nonces if len(nonces) > 1 else nonces[0])


@pytest.mark.parametrize("nonces", [["n" * 9], ["n" * 75], ["n" * 10] * 7, ["é" * 38]])
def test_nonces_outside_the_limits(machine: SimulatedMachine, nonces: list[str]) -> None:
    with pytest.raises(ServiceError) as refused:
        claims_of(machine, nonces)
    assert refused.value.code == "InvalidArgument"
    assert refused.value.is_callers_fault


def test_container_without_overrides(machine: SimulatedMachine) -> None:
    container = claims_of(machine)["submods"]["container"]
    assert container["args"] == ["/usr/local/bin/mcbn-workload", "server"]
    assert container["env"] == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOSTNAME": "simulated-vm",
    }
    assert not {"env_override", "cmd_override"} & container.keys()


def test_container_with_overrides(altered: Altered) -> None:
    machine = altered(env_override={"MCBN_LISTEN": "0.0.0.0:1", "LANG": "C"}, cmd_override=("client", "--evil"))
    container = claims_of(machine)["submods"]["container"]
    assert container["env_override"] == {"MCBN_LISTEN": "0.0.0.0:1", "LANG": "C"}
    assert container["env"]["LANG"] == "C"
    assert container["env"]["MCBN_LISTEN"] == "0.0.0.0:1"
    assert container["cmd_override"] == ["client", "--evil"]
    assert container["args"] == ["/usr/local/bin/mcbn-workload", "client", "--evil"]


def test_all_gce_claims_are_strings(machine: SimulatedMachine) -> None:
    gce = claims_of(machine)["submods"]["gce"]
    assert set(gce) == {"zone", "project_id", "project_number", "instance_name", "instance_id"}
    assert all(type(value) is str for value in gce.values())


def test_any_claim_can_be_overridden_or_removed(altered: Altered) -> None:
    claims = claims_of(
        altered(
            overrides={
                "hwmodel": "GCP_SHIELDED_VM",
                "submods.nvidia_gpu.cc_mode": "OFF",
                "submods.container.env": None,
            },
            removed=("dbgstat", "submods.confidential_space.support_attributes", "absent.claim"),
        )
    )
    assert claims["hwmodel"] == "GCP_SHIELDED_VM"
    assert claims["submods"]["nvidia_gpu"] == {"cc_mode": "OFF"}
    assert claims["submods"]["container"]["env"] is None
    assert "dbgstat" not in claims
    assert "support_attributes" not in claims["submods"]["confidential_space"]


def test_overrides_of_one_token_do_not_leak_into_the_next(machine: SimulatedMachine, altered: Altered) -> None:
    changed = altered(overrides={"tdx.gcp_attester_tcb_status": "OutOfDate", "x": {"y": 1}, "x.y": 2})
    assert claims_of(changed)["tdx"]["gcp_attester_tcb_status"] == "OutOfDate"
    assert changed.overrides["x"] == {"y": 1}
    assert claims_of(machine)["tdx"]["gcp_attester_tcb_status"] == "UpToDate"


@pytest.mark.parametrize("change", [{"overrides": {"hwmodel.x": 1}}, {"removed": ("hwmodel.x",)}])
def test_a_path_through_a_string_is_refused(altered: Altered, change: dict[str, Any]) -> None:
    with pytest.raises(MachineError, match="hwmodel"):
        claims_of(altered(**change))


def test_the_clock_offset_moves_all_three_times(altered: Altered) -> None:
    claims = claims_of(altered(clock_offset=-7200))
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (1_799_992_800, 1_799_992_800, 1_799_996_400)


def shape(value: object) -> object:
    """The value with its leaves replaced by their JSON types; environments keep only their names."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shape(member) for member in value]
    return type(value).__name__


@pytest.mark.parametrize(
    ("name", "changes", "nonces"),
    [
        ("gcs_pki_intel_tdx_prod_250800_oak", {}, 1),
        ("gcs_oidc_amd_sev_debug_251001_synddb_nonce", {"hwmodel": "GCP_AMD_SEV", "debug": True}, 1),
    ],
)
def test_shape_equals_that_of_a_real_token(evidence: Path, name: str, changes: dict[str, Any], nonces: int) -> None:
    """Keys and JSON types agree everywhere; no difference is excused.

    What the owner of the real image and VM chose (the environment's names, how many arguments) is chosen alike here.
    """
    real = json.loads((evidence / "claims" / f"{name}.json").read_text())["claims"]
    container = real["submods"]["container"]
    override = container.get("env_override", {})
    own = {key: "x" for key in container["env"] if key not in {"PATH", "HOSTNAME", *override}}
    machine = SimulatedMachine(
        image_digest="sha256:" + "ab" * 32, env=own, env_override=dict.fromkeys(override, "x"), **changes
    )
    assert shape(claims_of(machine, NONCES[:nonces])) == shape(real)
