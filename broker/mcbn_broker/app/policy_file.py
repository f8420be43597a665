"""The participant's policy.toml of a running broker: read again on SIGHUP; a bad one never replaces a good one."""

import os
from pathlib import Path

from mcbn_broker.appraisal.policy import Policy, load_policy
from mcbn_broker.errors import BrokerError
from mcbn_broker.telemetry.logs import logger


class PolicyFile:
    """Holds the policy in force. Without a file at start, that is the policy which admits all that the manifest admits.

    A file that was in force once has to stay: its disappearance is no decision of the participant's.

    Raises:
        BrokerError: The file is there at start and cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._policy = Policy()
        self._there = os.path.lexists(path)
        if self._there:
            self._policy = load_policy(path)
        else:
            _say_there_is_none(path)

    def current(self) -> Policy:
        """Return the policy in force."""
        return self._policy

    def reload(self) -> None:
        """Read the file again; if it cannot be used, say so and keep the policy in force."""
        if not self._there and not os.path.lexists(self._path):
            _say_there_is_none(self._path)
            return
        try:
            self._policy, self._there = load_policy(self._path), True
        except BrokerError as error:
            logger().error(
                "policy_not_reloaded",
                detail=str(error),
                next_step="mend or restore the file, then SIGHUP; the old policy stays in force",
            )
        else:
            logger().info("policy_reloaded", path=str(self._path))


def _say_there_is_none(path: Path) -> None:
    logger().warning("NO POLICY FILE", path=str(path), detail="all that the manifest admits is admitted")
