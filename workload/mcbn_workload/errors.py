"""The root of this package's errors, and the exit codes of `mcbn-workload`."""

from enum import IntEnum
from typing import ClassVar, Final


class ExitCode(IntEnum):
    """What `mcbn-workload` returns to its caller. The numbers are stable."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    NO_KEYS = 4
    CHANNEL = 5
    APPLICATION = 6


EXIT_CODES: Final = {
    ExitCode.OK: "It did what it was asked to do; `server` and `client`: told to stop, or the application is done.",
    ExitCode.FAILED: "A fault of the program itself; its log has the traceback.",
    ExitCode.USAGE: "The command line is wrong.",
    ExitCode.CONFIGURATION: "The configuration file, the environment or an input file is wrong. Nothing was started.",
    ExitCode.NO_KEYS: "The manifest or the shares could not be gathered; the table says who is missing and why.",
    ExitCode.CHANNEL: "No channel to the far end, or it broke.",
    ExitCode.APPLICATION: "The application beside the tunnel could not be started, or it failed.",
}
"""What each exit code means."""


SHOWN_CHARS: Final = 200


def printable(unverified_text: str) -> str:
    """Return a text of somebody else's as it may be shown: escaped, on one line, and not longer than `SHOWN_CHARS`."""
    return ascii(unverified_text[:SHOWN_CHARS])[1:-1][:SHOWN_CHARS]


class WorkloadError(Exception):
    """Root of this package's errors.

    `code` is stable and fit for programs; the text says what was found and what to do next, and never holds a secret.
    """

    code: ClassVar[str] = "workload_error"
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class ConfigurationError(WorkloadError):
    """A setting that this workload must not or cannot run with. Nothing was started."""

    code = "configuration_invalid"
    exit_code = ExitCode.CONFIGURATION


class NoKeysError(WorkloadError):
    """This workload holds no live keys: manifest, tokens or shares are missing, or a lease has ended."""

    code = "no_keys"
    exit_code = ExitCode.NO_KEYS
