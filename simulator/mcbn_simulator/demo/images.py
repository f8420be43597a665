"""The two images and the VMs that run them: what their tokens will say, and so what the participants agree on."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import (
    DBGSTAT_PRODUCTION,
    ConfidentialSpaceReference,
    SupportAttribute,
    ValueRule,
)
from mcbn_simulator.claims import claims_for
from mcbn_simulator.machine import SimulatedMachine

PROJECT_NUMBER: Final = "100000000001"
CONFIGURATION: Final = "workload.toml"
"""The image's configuration file, in the folder that the workload starts in."""

ADDRESS_VARIABLES: Final[Mapping[Role, str]] = {Role.SERVER: "MCBN_LISTEN", Role.CLIENT: "MCBN_CONNECT"}
"""Where each role's ciphertext goes. Frank, who runs the VMs, may set it, as well as the brokers' addresses."""


def image_digest(role: Role, content: bytes) -> str:
    """Stands for a reproducible build: the same digest for the same role and content, and no other."""
    return "sha256:" + hashlib.sha256(b"mcbn demo image\0" + role.encode() + b"\0" + content).hexdigest()


def machine_for(role: Role, name: str, number: int, digest: str) -> SimulatedMachine:
    """A VM that runs an image as its builder meant it.

    Args:
        role: The image's role.
        name: The VM's name.
        number: Tells VMs apart: the last digits of the instance id.
        digest: The image's.
    """
    return SimulatedMachine(
        image_digest=digest,
        image_reference=f"registry.simulator.invalid/mcbn/{role}:latest",
        cmd=(role.value, "--config", CONFIGURATION),
        project_number=PROJECT_NUMBER,
        instance_name=f"{name}-vm",
        instance_id=str(1_000_000_000_000_000_000 + number),
    )


def broker_variable(participant: str) -> str:
    """The variable with which Frank says where a participant's broker is."""
    return f"MCBN_BROKER_{participant.upper()}"


def reference_for(
    role: Role, *machines: SimulatedMachine, issuer: str, participants: Sequence[str]
) -> ConfidentialSpaceReference:
    """The reference values that admit these VMs: what participants would write down after building the images.

    Args:
        role: The image's role.
        machines: The VMs as their builder meant them; they differ in their images only.
        issuer: The simulated attestation service.
        participants: Whose brokers' addresses Frank may set.
    """
    brokers = {broker_variable(name): "http://127.0.0.1:*" for name in participants}
    rules = {ADDRESS_VARIABLES[role]: "127.0.0.1:*"} | brokers
    env_override = {name: ValueRule(text, is_pattern=True) for name, text in rules.items()}
    return reference_of(*machines, issuer=issuer, env_override=env_override)


def reference_of(
    *machines: SimulatedMachine, issuer: str, env_override: Mapping[str, ValueRule]
) -> ConfidentialSpaceReference:
    """The reference values that admit these VMs and no others.

    Args:
        machines: The VMs as their builder meant them; they differ in their images only.
        issuer: The simulated attestation service.
        env_override: What their operator may set.
    """
    machine = machines[0]
    claims = claims_for(machine, issuer=issuer, audience="", nonces=(), now=0)
    container = claims["submods"]["container"]
    return ConfidentialSpaceReference(
        issuer=issuer,
        root=None,
        image_digests=tuple(sorted(one.image_digest for one in machines)),
        image_signatures=None,
        hwmodels=(machine.hwmodel,),
        dbgstat=DBGSTAT_PRODUCTION,
        support_attribute=SupportAttribute.STABLE,
        args=tuple(container["args"]),
        env={name: value for name, value in container["env"].items() if name != "HOSTNAME"},
        env_override=dict(env_override),
        restart_policies=(machine.restart_policy,),
        monitoring_memory=False,
        project_numbers=(machine.project_number,),
        instance_ids=None,
        service_accounts=None,
        insecure_debug=False,
    )
