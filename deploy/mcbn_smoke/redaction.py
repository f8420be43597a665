"""What a report keeps of an attestation token: what is the same for everybody, and never its signature."""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

REDACTED: Final = "redacted"

_HEADER: Final = frozenset({"alg", "kid", "typ"})
_CLAIMS: Final = frozenset(
    {
        *("aud", "iss", "exp", "iat", "nbf", "eat_nonce", "eat_profile"),
        *("secboot", "oemid", "hwmodel", "swname", "swversion", "dbgstat", "attester_tcb", "tdx"),
        *("submods.confidential_space.support_attributes", "submods.confidential_space.monitoring_enabled.memory"),
        *("submods.container.image_digest", "submods.container.image_id", "submods.container.restart_policy"),
        *("submods.container.args", "submods.container.cmd_override", "submods.nvidia_gpu.cc_mode"),
    }
)
"""The claims that are kept. All others keep their names and shapes: they may say whose VM this is, and where."""


def redacted_token(token: str) -> dict[str, Any]:
    """Return header and claims of a token (RFC 7515, compact form), redacted.

    Raises:
        ValueError: It is none.
    """
    header, claims, _signature = token.split(".")
    return {
        "header": {name: value if name in _HEADER else REDACTED for name, value in _decoded(header).items()},
        "claims": redacted(_decoded(claims)),
    }


def redacted(value: Any, path: str = "") -> Any:
    """Return a claim with everything in it replaced that is not on the list.

    Args:
        value: The claim.
        path: Its dotted path.
    """
    if path in _CLAIMS:
        return value
    if isinstance(value, Mapping):
        return {name: redacted(member, f"{path}.{name}" if path else str(name)) for name, member in value.items()}
    if isinstance(value, list):
        return [REDACTED for _ in value]
    return None if value is None else REDACTED


def _decoded(part: str) -> dict[str, Any]:
    value = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    if not isinstance(value, dict):
        raise ValueError("a part of a token is no object")  # noqa: TRY004  # what every reader of text raises
    return value
