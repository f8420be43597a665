"""The root of this package's errors, and the exit codes of `mcbn-images`."""

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar, Final


class ExitCode(IntEnum):
    """What `mcbn-images` returns to its caller. The numbers are stable."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SUPERSEDED = 3
    DIFFERENT = 4
    INPUT = 5
    REGISTRY = 6


EXIT_CODES: Final = {
    ExitCode.OK: "Done; `verify`: the digest is the one of this source, these locks and this roster.",
    ExitCode.FAILED: "A fault of the program itself.",
    ExitCode.USAGE: "The command line, a roster, a lock or a specification is wrong. Nothing was written.",
    ExitCode.SUPERSEDED: "A locked package or wheel cannot be had any more; the text names it and the command.",
    ExitCode.DIFFERENT: "The digest is another one, or the registry changed it; with `--against`, what differs.",
    ExitCode.INPUT: "A package or wheel is not what its lock says, or is built in a way that is not understood.",
    ExitCode.REGISTRY: "`push`: the registry cannot be reached, or refuses; the text says what to do.",
}
"""The one table of exit codes."""


class ImagesError(Exception):
    """Root of this package's errors. The text says what was found and what to do next."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED


class UsageError(ImagesError):
    """A command line, roster, lock or specification that cannot be right."""

    exit_code = ExitCode.USAGE


class InputError(ImagesError):
    """A package or wheel whose bytes are not the locked ones, or cannot be read."""

    exit_code = ExitCode.INPUT


class SupersededError(ImagesError):
    """Locked inputs that no source has any more.

    Attributes:
        names: The packages and wheels, by name.
    """

    exit_code = ExitCode.SUPERSEDED

    def __init__(self, names: Sequence[str], details: Sequence[str]) -> None:
        first = f"inputs superseded: {' '.join(names)}"
        next_step = "Refresh the locks and review the difference: mcbn-images lock"
        super().__init__("\n".join([first, *details, next_step]))
        self.names = tuple(names)


class DifferentError(ImagesError):
    """A digest that is not the expected one."""

    exit_code = ExitCode.DIFFERENT


class RegistryError(ImagesError):
    """A registry that cannot be reached, or refuses."""

    exit_code = ExitCode.REGISTRY
