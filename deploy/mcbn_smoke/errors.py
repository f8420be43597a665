"""The root of this package's errors, and the exit codes of `deploy/smoke`."""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from mcbn_simulator.demo.processes import DemoError


class ExitCode(IntEnum):
    """What `deploy/smoke` returns to its caller. The numbers are stable."""

    OK = 0
    FAILED = 1
    USAGE = 2
    LEFT_BEHIND = 3


EXIT_CODES: Final = {
    ExitCode.OK: "Every act went as expected, and everything was deleted.",
    ExitCode.FAILED: "Something did not go as expected; everything was deleted.",
    ExitCode.USAGE: "The command line is wrong. Nothing was made.",
    ExitCode.LEFT_BEHIND: "Something could not be deleted, and may be charged for: the text has the commands to run.",
}
"""The one table of exit codes. After a signal it is 128 and the signal's number; the text says if anything is left."""


class SmokeError(DemoError):
    """The smoke test cannot go on. The text says what was found and what to do next."""


class LeftBehindError(SmokeError):
    """Something could not be deleted.

    Args:
        commands: What to run by hand.
    """

    def __init__(self, commands: Sequence[str]) -> None:
        super().__init__("LEFT BEHIND in the project, and perhaps charged for. Run:", commands)
