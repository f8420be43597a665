"""The console entry `mcbn-broker`, also `python -m mcbn_broker`."""

import os
import sys
import traceback
from typing import Final

from mcbn_broker.cli import app
from mcbn_broker.cli.root import PROGRAM
from mcbn_broker.cli.text import printable, say
from mcbn_broker.errors import EXIT_CODES, BrokerError
from mcbn_protocol.errors import ProtocolError

TRACEBACK: Final = "MCBN_TRACEBACK"


def main() -> None:
    """Run the command line and exit with a number of `mcbn_broker.errors.EXIT_CODES`."""
    try:
        app(prog_name=PROGRAM)
    except BrokerError as error:
        _fail(str(error), error.exit_code)
    except ProtocolError as error:
        _fail(str(error), EXIT_CODES["refused"].number)
    except Exception as error:  # noqa: BLE001  # the last seam: whatever it is, a person gets a sentence and a number
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        _fail(
            f"failed unexpectedly ({type(error).__name__}): run it again with {TRACEBACK}=1 and report what it prints",
            EXIT_CODES["failed"].number,
        )


def _fail(text: str, number: int) -> None:
    say(f"{PROGRAM}: {printable(text)}")
    sys.exit(number)


if __name__ == "__main__":
    main()
