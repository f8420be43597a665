"""The console entry `mcbn-simulator`, also `python -m mcbn_simulator`."""

import logging
import sys

from mcbn_simulator.cli import app
from mcbn_simulator.errors import ExitCode, SimulatorError


def main() -> None:
    """Run the command line; its exit codes are `EXIT_CODES`."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="mcbn-simulator: %(message)s")
    try:
        app(prog_name="mcbn-simulator")
    except SimulatorError as error:
        logging.getLogger(__name__).error("%s", error)  # noqa: TRY400  a person needs the sentence, not a traceback
        sys.exit(ExitCode.FAILED)


if __name__ == "__main__":
    main()
