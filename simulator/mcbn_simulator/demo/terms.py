"""The terms file on which the participants agree, as a person would write it."""

import json
from collections.abc import Mapping
from typing import Any, Final

from mcbn_protocol.identifiers import Role
from mcbn_protocol.reference_values import ConfidentialSpaceReference

LEASE_SECONDS: Final = 10
"""Short, so that a pause is seen to end a channel while somebody watches; minutes are usual."""

_HEAD: Final = f"""\
valid_days = 1
overlap_seconds = 0
scheme = "hkdf-sha256"
lease_seconds = {LEASE_SECONDS}
channels = ["tls13-psk"]
kems = ["mlkem768-x25519"]
"""


def terms_text(references: Mapping[Role, ConfidentialSpaceReference]) -> str:
    """Return the TOML, with one VM of each role."""
    return _HEAD + "".join(_role(role, reference) for role, reference in references.items())


def _role(role: Role, reference: ConfidentialSpaceReference) -> str:
    members = "".join(f"{name} = {_toml(value)}\n" for name, value in reference.to_json().items())
    return f"\n[roles.{role}]\ninstances = 1\n\n[[roles.{role}.evidence]]\n{members}"


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)} = {_toml(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)  # for strings, integers and booleans, JSON is TOML
