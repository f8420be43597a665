"""The application beside the tunnel: a child process of the workload."""

import asyncio
import logging
import os
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import ClassVar, Final

from mcbn_workload.errors import ExitCode, WorkloadError
from mcbn_workload.settings import ApplicationSettings

_log: Final = logging.getLogger("mcbn.workload.application")

ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
"""What an application's environment begins with. Nothing in it comes from the operator."""

_INIT: Final = 1


class ApplicationError(WorkloadError):
    """The application could not be started, or ended by a failure of its own."""

    code = "application_failed"
    exit_code: ClassVar[ExitCode] = ExitCode.APPLICATION


class Application:
    """A running application, in a session of its own so that all its processes end together."""

    def __init__(self, process: "subprocess.Popen[bytes]", on_end: Callable[[], None]) -> None:
        self._process = process
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._told_to_end = False
        # A thread, because an event loop keeps SIGCHLD for itself and would not reap other programs' children.
        self._reaper = threading.Thread(target=self._reap, name="reaper", daemon=True)
        self._reaper.start()

    def check(self) -> None:
        """Check how it ended.

        Raises:
            ApplicationError: By itself, and by a signal or with a status other than 0.
        """
        status = self._process.returncode
        if status and not self._told_to_end:
            how = f"exit status {status}" if status > 0 else f"signal {-status}"
            raise ApplicationError(f"the application ended ({how}), so the tunnel ends too: its own output says why")

    async def aclose(self, grace: float) -> None:
        """Tell it to end (SIGTERM), give it `grace` seconds, then kill it."""
        if self._process.returncode is None:
            self._told_to_end = True
            self._signal(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), grace)
        self.kill()

    def kill(self) -> None:
        """Kill all its processes, if it has not ended."""
        if self._process.returncode is None:
            self._signal(signal.SIGKILL)
        self._reaper.join()

    def _reap(self) -> None:
        """Take the exit statuses of children until the application has ended: of all of them where this is process 1.

        Only there do an application's orphans become children of this process, and nobody else would reap them.
        """
        target, pid, status = -1 if os.getpid() == _INIT else self._process.pid, 0, 0
        while pid != self._process.pid:
            pid, status = os.waitpid(target, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._signal(signal.SIGKILL)  # to what it has left behind
        fields = {"event": "application_ended", "status": self._process.returncode}
        _log.info("the application has ended", extra=fields)
        self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._ended.set()
        self._on_end()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@asynccontextmanager
async def run_application(settings: ApplicationSettings, on_end: Callable[[], None]) -> AsyncIterator[Application]:
    """Start the application with nothing but its own environment, and kill what is left of it at the block's end.

    Args:
        settings: What to start.
        on_end: Called once when it has ended, for whatever reason.

    Raises:
        ApplicationError: It cannot be started.
    """
    application = Application(_start(settings), on_end)
    _log.info("the application runs", extra={"event": "application_started", "command": settings.command[0]})
    try:
        yield application
    finally:
        application.kill()


def _start(settings: ApplicationSettings) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            settings.command,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env={**ENVIRONMENT, **settings.environment},
            start_new_session=True,
        )
    except OSError as error:
        raise ApplicationError(
            f"cannot start {settings.command[0]}: {error.strerror}; [application] in the image's configuration names it"
        ) from error
