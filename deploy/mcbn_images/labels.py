"""The labels with which an image tells Confidential Space's launcher what its operator may change."""

from collections.abc import Sequence
from typing import Final

PREFIX: Final = "tee.launch_policy."
OVERRIDE: Final = PREFIX + "allow_env_override"
ADDRESS: Final = {"client": "MCBN_CONNECT", "server": "MCBN_LISTEN"}
"""The variable with the ciphertext address, by role."""

_COMMON: Final = ("MCBN_LOG_LEVEL", "MCBN_MANIFEST")


def operator_variables(role: str, participants: Sequence[str]) -> tuple[str, ...]:
    """Return the variables that the operator of a role may set, sorted.

    Args:
        role: `client` or `server`.
        participants: The names in the roster.
    """
    brokers = ("MCBN_BROKER_" + name.upper().replace("-", "_") for name in participants)
    return tuple(sorted([ADDRESS[role], *_COMMON, *brokers]))


def launch_policy(role: str, participants: Sequence[str]) -> dict[str, str]:
    """Return the labels of a workload image.

    The launcher splits the list of variables at commas and does not trim, so there are no blanks in it.
    """
    policy = {
        "allow_env_override": ",".join(operator_variables(role, participants)),
        "allow_cmd_override": "false",
        "allow_capabilities": "false",
        "allow_cgroups": "false",
        "log_redirect": "debugonly",
        "hardened_monitoring": "none",
        "debug_monitoring": "none",
    }
    return {PREFIX + name: value for name, value in policy.items()}
