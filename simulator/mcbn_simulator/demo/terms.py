"""The terms file on which the participants agree, as a person would write it."""

import json
from collections.abc import Mapping
from typing import Any, Final

from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import ConfidentialSpaceReference
from mcbn_simulator.demo.channels import LINES

LEASE_SECONDS: Final = 20
"""Short, so that a pause is seen to end a channel while somebody watches; minutes are usual. A busy machine needs some
of it to derive RSA keys."""

_HEAD: Final = """\
valid_days = 1
overlap_seconds = 0
scheme = "hkdf-sha256"
channels = ["tls13-psk", "dtls12-psk", "mtls13"]
kems = ["mlkem768-x25519"]

[mutual_tls]
leaf = "rsa"
scheme = "c2sp-det-keygen"
bits = 3072
"""


def terms_text(
    references: Mapping[Role, ConfidentialSpaceReference],
    *,
    lease_seconds: int = LEASE_SECONDS,
    head: str | None = None,
    instances: int = len(LINES),
) -> str:
    """Return the TOML.

    Args:
        references: What may play each role.
        lease_seconds: How long a lease lasts.
        head: The other terms; by default the demo's.
        instances: VMs of each role at once; by default one for each of the demo's channels.
    """
    roles = "".join(_role(role, reference, instances) for role, reference in references.items())
    return f"lease_seconds = {lease_seconds}\n{_HEAD if head is None else head}{roles}"


def _role(role: Role, reference: ConfidentialSpaceReference, instances: int) -> str:
    members = "".join(f"{name} = {_toml(value)}\n" for name, value in reference.to_json().items())
    return f"\n[roles.{role}]\ninstances = {instances}\n\n[[roles.{role}.evidence]]\n{members}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)  # for strings, integers and booleans, JSON is TOML
