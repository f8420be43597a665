"""Runs programs to their end. A cancelled wait lets the program finish first: what it makes has to be known."""

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mcbn_simulator.demo.narration import Narrator
from mcbn_smoke.errors import SmokeError

SECONDS: Final = 900.0
_TAIL_LINES: Final = 20


class Programs:
    """Starts programs, and shows what is started.

    Args:
        narrator: Where it is shown.
    """

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator

    async def run(self, program: str | Path, *arguments: str | Path, shown: bool = True) -> str:
        """Return what a program prints on standard output, without the last line's end.

        Args:
            program: Its name or path.
            arguments: Its arguments; none of them is a secret.
            shown: Whether to show the command.

        Raises:
            SmokeError: It is not there, or it fails.
        """
        if shown:
            self._narrator.command("you", str(program), arguments)
        work = asyncio.ensure_future(_run(program, arguments))
        try:
            status, out, err = await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise
        if status != 0:
            typed = " ".join(map(str, [program, *arguments]))  # names project and VM, which the report does not
            log = [typed, *err.splitlines()[-_TAIL_LINES:]]
            raise SmokeError(f"{Path(program).name} ended with status {status}.", log)
        return out.rstrip("\n")


async def _run(program: str | Path, arguments: Sequence[str | Path]) -> tuple[int, str, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *map(str, arguments),
            env=os.environ | {"CLOUDSDK_CORE_DISABLE_PROMPTS": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the smoke test alone, which ends everything in order
        )
    except OSError as error:
        raise SmokeError(
            f"{Path(program).name} cannot be started: {error.strerror}. Install it, then try again."
        ) from error
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)  # a script's own children too
        out, err = await process.communicate()
    assert process.returncode is not None  # noqa: S101  # for the type checker: it has ended
    return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")
