"""The participant's policy.toml of a running broker: read again on SIGHUP; a bad one never replaces a good one."""

from pathlib import Path

from mcbn_broker.appraisal.policy import Policy, load_policy
from mcbn_broker.errors import BrokerError
from mcbn_broker.telemetry.logs import logger


class PolicyFile:
    """Holds the policy in force. Without a file, that is the policy which admits all that the manifest admits.

    Raises:
        BrokerError: The file is there at start and cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._policy = self._read()

    def current(self) -> Policy:
        """Return the policy in force."""
        return self._policy

    def reload(self) -> None:
        """Read the file again; if it cannot be used, say so and keep the policy in force."""
        try:
            self._policy = self._read()
        except BrokerError as error:
            logger().error(
                "policy_not_reloaded", detail=str(error), next_step="mend the file; the old policy stays in force"
            )
        else:
            logger().info("policy_reloaded", path=str(self._path))

    def _read(self) -> Policy:
        return load_policy(self._path) if self._path.exists() else Policy()
