"""The errors of the simulator, under one root, and the exit codes of `mcbn-simulator`."""

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """What `mcbn-simulator` returns to its caller. The numbers are stable."""

    OK = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_CODES: Final = {
    ExitCode.OK: "It did what it was asked to do; `demo`: every act went as expected.",
    ExitCode.FAILED: "It could not; `demo`: an act did not go as expected.",
    ExitCode.USAGE: "The command line is wrong.",
    ExitCode.INTERRUPTED: "`demo` was interrupted with Ctrl-C; no process and no folder is left.",
    ExitCode.TERMINATED: "`demo` was told to stop by SIGTERM; no process and no folder is left.",
}
"""What each exit code means."""

CLIENT_ERROR_CODES: Final = frozenset(
    {
        "InvalidArgument",
        "FailedPrecondition",
        "PermissionDenied",
        "Unauthenticated",
        "NotFound",
        "Aborted",
        "OutOfRange",
        "Canceled",
    }
)
"""gRPC status names that the launcher answers with 400; every other one becomes 500 (as the public launcher does)."""


class SimulatorError(Exception):
    """Root of everything that this package raises on purpose. Its text says what to do next."""


class MachineError(SimulatorError):
    """A machine description is malformed, or an override of it cannot be applied."""


class FaultError(SimulatorError):
    """A fault has no such name."""


class ListenError(SimulatorError):
    """An address or a socket path cannot be listened on."""


class ControlError(SimulatorError):
    """The issuer's control socket does not answer, or answers something unexpected."""


class TokenOptionsError(SimulatorError):
    """The body of a token request is refused by the launcher; the text is the answer's body."""


class ServiceError(SimulatorError):
    """The attestation service refused: a gRPC status with its code's name and description.

    Args:
        code: Name of the gRPC status code, such as `InvalidArgument`.
        description: What was wrong.
    """

    def __init__(self, code: str, description: str) -> None:
        super().__init__(f"rpc error: code = {code} desc = {description}")
        self.code = code
        self.description = description

    @property
    def is_callers_fault(self) -> bool:
        """Whether the launcher answers 400 rather than 500."""
        return self.code in CLIENT_ERROR_CODES
