"""The claim set of a Confidential Space token, in its real shape and types."""

import copy
from collections.abc import Sequence
from typing import Any, Final

from mcbn_simulator.errors import MachineError, ServiceError
from mcbn_simulator.machine import SimulatedMachine

TOKEN_SECONDS: Final = 3600
GOOGLE_OEMID: Final = 11129  # Google's IANA private enterprise number (RFC 9711, section 4.2.3)
EAT_PROFILE: Final = "https://cloud.google.com/confidential-computing/confidential-space/docs/reference/token-claims"
MAXIMUM_NONCES: Final = 6
NONCE_BYTES: Final = range(10, 75)
_CONTAINER_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def claims_for(
    machine: SimulatedMachine, *, issuer: str, audience: str, nonces: Sequence[str], now: float
) -> dict[str, Any]:
    """The claims that the service would sign for a machine, the machine's overrides and removals applied last.

    Args:
        machine: The VM.
        issuer: The `iss` claim.
        audience: The `aud` claim.
        nonces: None gives no `eat_nonce`, one gives a string, several give a list.
        now: The service's clock, in Unix seconds; `iat` and `nbf` are its whole seconds plus the VM's offset.

    Raises:
        ServiceError: InvalidArgument, more than 6 nonces or one outside 10 to 74 bytes.
        MachineError: An override that leads through a claim which is not an object.
    """
    _check_nonces(nonces)
    claims = (
        _registered_claims(machine, issuer=issuer, audience=audience, issued_at=int(now) + machine.clock_offset)
        | _nonce_claim(nonces)
        | _platform_claims(machine)
        | {"submods": _submods(machine), "google_service_accounts": _service_accounts(machine)}
    )
    for path, value in machine.overrides.items():
        _set(claims, path, copy.deepcopy(value))
    for path in machine.removed:
        _remove(claims, path)
    return claims


def _check_nonces(nonces: Sequence[str]) -> None:
    """The limits are the service's; its wording is not public."""
    if len(nonces) > MAXIMUM_NONCES:
        raise ServiceError("InvalidArgument", f"too many nonces: {len(nonces)}, at most {MAXIMUM_NONCES}")
    for nonce in nonces:
        if len(nonce.encode()) not in NONCE_BYTES:
            raise ServiceError("InvalidArgument", f"a nonce has 10 to 74 bytes, not {len(nonce.encode())}")


def _registered_claims(machine: SimulatedMachine, *, issuer: str, audience: str, issued_at: int) -> dict[str, Any]:
    instance = f"projects/{machine.project_id}/zones/{machine.zone}/instances/{machine.instance_name}"
    return {
        "aud": audience,
        "exp": issued_at + TOKEN_SECONDS,
        "iat": issued_at,
        "iss": issuer,
        "nbf": issued_at,
        "sub": f"https://www.googleapis.com/compute/v1/{instance}",
    }


def _nonce_claim(nonces: Sequence[str]) -> dict[str, Any]:
    if not nonces:
        return {}
    return {"eat_nonce": nonces[0] if len(nonces) == 1 else list(nonces)}


def _platform_claims(machine: SimulatedMachine) -> dict[str, Any]:
    tdx = {
        "attester_tcb": ["INTEL"],
        "tdx": {"gcp_attester_tcb_status": "UpToDate", "gcp_attester_tcb_date": "2025-05-14T00:00:00Z"},
    }
    return {
        "eat_profile": EAT_PROFILE,
        "secboot": True,
        "oemid": GOOGLE_OEMID,
        "hwmodel": machine.hwmodel,
        "swname": "CONFIDENTIAL_SPACE",
        "swversion": [machine.swversion],
        "dbgstat": "enabled" if machine.debug else "disabled-since-boot",
        **(tdx if machine.hwmodel == "GCP_INTEL_TDX" else {}),
    }


def _submods(machine: SimulatedMachine) -> dict[str, Any]:
    support = {} if machine.debug else {"support_attributes": ["LATEST", "STABLE", "USABLE"]}
    return {
        "confidential_space": support | {"monitoring_enabled": {"memory": False}},
        "container": _container(machine),
        "gce": {
            "zone": machine.zone,
            "project_id": machine.project_id,
            "project_number": machine.project_number,
            "instance_name": machine.instance_name,
            "instance_id": machine.instance_id,
        },
    }


def _container(machine: SimulatedMachine) -> dict[str, Any]:
    container: dict[str, Any] = {
        "image_reference": machine.image_reference,
        "image_digest": machine.image_digest,
        "restart_policy": machine.restart_policy,
        "image_id": machine.image_id,
        "env": {"PATH": _CONTAINER_PATH, **machine.env, **machine.env_override, "HOSTNAME": machine.instance_name},
        "args": [*machine.entrypoint, *(machine.cmd_override or machine.cmd)],
    }
    if machine.env_override:
        container["env_override"] = dict(machine.env_override)
    if machine.cmd_override:
        container["cmd_override"] = list(machine.cmd_override)
    return container


def _service_accounts(machine: SimulatedMachine) -> list[str]:
    return list(machine.service_accounts) or [f"{machine.project_number}-compute@developer.gserviceaccount.com"]


def _set(claims: dict[str, Any], path: str, value: object) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        claims = claims.setdefault(parent, {})
        if not isinstance(claims, dict):
            raise MachineError(f"The override {path!r} leads through {parent!r}, which is not an object.")
    claims[name] = value


def _remove(claims: dict[str, Any], path: str) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        claims = claims.get(parent, {})
        if not isinstance(claims, dict):
            raise MachineError(f"The removal {path!r} leads through {parent!r}, which is not an object.")
    claims.pop(name, None)
