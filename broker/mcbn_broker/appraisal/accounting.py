"""Accounts for every claim of a Confidential Space token: a claim that nobody has thought about raises an alarm."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from mcbn_broker.attestation.printable import printable

UNKNOWN_MAX: Final = 32


class Treatment(StrEnum):
    """What happens to a claim."""

    REQUIRED = "required"
    OPTIONAL = "optional"  # may be absent; if it is there, a check looks at it
    CHECKED_EARLIER = "checked earlier"  # by attestation, before there is a result
    UNCHECKED = "deliberately unchecked"


class Account(NamedTuple):
    """How one claim, with all that is under it, is treated, and why."""

    treatment: Treatment
    reason: str


_CHECKED: Final = "A check is named for it."
_VERIFIED: Final = "Verified with the signature."

ACCOUNTS: Final[Mapping[str, Account]] = {
    "aud": Account(Treatment.CHECKED_EARLIER, _VERIFIED),
    "exp": Account(Treatment.CHECKED_EARLIER, _VERIFIED),
    "nbf": Account(Treatment.CHECKED_EARLIER, _VERIFIED),
    "eat_nonce": Account(Treatment.CHECKED_EARLIER, "Exactly the challenge and the binding."),
    "iat": Account(Treatment.REQUIRED, "Verified with the signature; a policy may ask for a lower age."),
    "iss": Account(Treatment.REQUIRED, "Verified with the signature; compared again with each reference value's own."),
    "sub": Account(Treatment.UNCHECKED, "Repeats names that gce has; numbers are compared instead."),
    "jti": Account(Treatment.UNCHECKED, "Discovery announces it; replay is prevented by our own challenge."),
    "eat_profile": Account(Treatment.REQUIRED, _CHECKED),
    "secboot": Account(Treatment.REQUIRED, _CHECKED),
    "oemid": Account(Treatment.REQUIRED, _CHECKED),
    "hwmodel": Account(Treatment.REQUIRED, _CHECKED),
    "swname": Account(Treatment.REQUIRED, _CHECKED),
    "swversion": Account(Treatment.REQUIRED, _CHECKED),
    "dbgstat": Account(Treatment.REQUIRED, _CHECKED),
    "attester_tcb": Account(Treatment.OPTIONAL, "Required on TDX only."),
    "tdx": Account(Treatment.OPTIONAL, "Required on TDX only. Its date is covered by the status."),
    "tee": Account(Treatment.UNCHECKED, "Tokens of 2023 carried it empty, beside submods."),
    "google_service_accounts": Account(Treatment.REQUIRED, _CHECKED),
    "submods.confidential_space.support_attributes": Account(Treatment.REQUIRED, _CHECKED),
    "submods.confidential_space.monitoring_enabled.memory": Account(Treatment.REQUIRED, _CHECKED),
    "submods.container.image_digest": Account(Treatment.REQUIRED, _CHECKED),
    "submods.container.args": Account(Treatment.REQUIRED, _CHECKED),
    "submods.container.env": Account(Treatment.REQUIRED, _CHECKED),
    "submods.container.restart_policy": Account(Treatment.REQUIRED, _CHECKED),
    "submods.container.cmd_override": Account(Treatment.OPTIONAL, "Absent, null or empty."),
    "submods.container.env_override": Account(Treatment.OPTIONAL, "Absent, null, empty, or what the manifest admits."),
    "submods.container.image_reference": Account(
        Treatment.UNCHECKED, "A name that the operator chose; names can be moved, the digest cannot."
    ),
    "submods.container.image_id": Account(Treatment.UNCHECKED, "The configuration, which image_digest covers."),
    "submods.container.image_signatures": Account(Treatment.OPTIONAL, "Required where the manifest names signers."),
    "submods.gce.project_number": Account(Treatment.REQUIRED, _CHECKED),
    "submods.gce.instance_id": Account(Treatment.REQUIRED, _CHECKED),
    "submods.gce.instance_name": Account(Treatment.REQUIRED, "HOSTNAME must equal it."),
    "submods.gce.zone": Account(Treatment.OPTIONAL, "Compared when the participant's policy names zones."),
    "submods.gce.project_id": Account(Treatment.UNCHECKED, "A name that may be given again; the number may not."),
    "submods.nvidia_gpu": Account(Treatment.OPTIONAL, "Absent without a GPU; else cc_mode must be ON."),
}  # fmt: skip
"""Every claim that this program knows, by path. The entry covers all that is under the path."""

_PARENTS: Final = {
    ".".join(names[:length]) for names in (path.split(".") for path in ACCOUNTS) for length in range(1, len(names))
}
CONTAINER_CLAIMS: Final = frozenset(
    path.removeprefix("submods.container.") for path in ACCOUNTS if path.startswith("submods.container.")
)
"""The members of `submods.container` that this program knows."""


def unknown_claims(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the paths of claims that are not in `ACCOUNTS`, printable and short, at most `UNKNOWN_MAX` of them."""
    found = (path for path, _ in zip(_unknown(claims, ""), range(UNKNOWN_MAX), strict=False))
    return tuple(printable(path).strip('"') for path in found)


def _unknown(claims: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in claims.items():
        path = f"{prefix}{name}"
        if path in _PARENTS and isinstance(value, dict):
            yield from _unknown(value, f"{path}.")
        elif path not in ACCOUNTS and path not in _PARENTS:
            yield path
