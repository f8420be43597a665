"""The default token as a file in the container: written beside the socket, renewed by rename."""

import asyncio
import logging
import os
import tempfile
from pathlib import Path
from typing import Final, NoReturn

from mcbn_simulator.claims import TOKEN_SECONDS
from mcbn_simulator.errors import ListenError, SimulatorError
from mcbn_simulator.launcher import ReadMachine, RequestToken
from mcbn_simulator.token_options import TokenOptions

TOKEN_FILE_NAME: Final = "attestation_verifier_claims_token"  # noqa: S105  a file name, not a secret
RENEWAL_SECONDS: Final = TOKEN_SECONDS * 8 // 10
_log = logging.getLogger(__name__)


async def write_default_token(path: Path, read_machine: ReadMachine, request_token: RequestToken) -> None:
    """Put a fresh default token (audience of Google's STS, no nonce) in place, mode 0644.

    Raises:
        ListenError: The folder is missing or not writable.
        SimulatorError: The service gives no token.
    """
    token = await request_token(read_machine(), TokenOptions())
    try:
        _replace(path, token)
    except OSError as error:
        raise ListenError(f"The token file {path} cannot be written: {error}") from error


def _replace(path: Path, text: str) -> None:
    """A reader sees the whole old token or the whole new one."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)
    Path(temporary).replace(path)


async def keep_default_token_fresh(path: Path, read_machine: ReadMachine, request_token: RequestToken) -> NoReturn:
    """Renew the file when four fifths of the token's life are over, for ever; an error leaves the old one in place."""
    while True:
        await asyncio.sleep(RENEWAL_SECONDS)
        try:
            await write_default_token(path, read_machine, request_token)
        except SimulatorError as error:
            _log.warning("The default token is not renewed: %s", error)
