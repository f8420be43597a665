"""Processes under measurement: started with a log of their own, their CPU and memory read from outside, and ended."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.02
_CPU_CLOCK: Final = 2  # CPUCLOCK_SCHED: clock_getcpuclockid(3) builds the id of a process' clock like this on Linux
ROOT: Final = Path(__file__).resolve().parents[1]


class Running:
    """One running program, whose log holds one JSON object a line."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log
        self._watched = psutil.Process(process.pid)

    def cpu_seconds(self) -> float:
        """User and system time of all of its threads so far."""
        try:
            return time.clock_gettime((~self.pid << 3) | _CPU_CLOCK)
        except OSError:
            times = self._watched.cpu_times()
            return times.user + times.system

    def memory(self) -> int:
        """Resident bytes."""
        return int(self._watched.memory_info().rss)

    async def said(self, event: str) -> dict[str, Any]:
        """Wait for the log line of an event, and return it.

        Raises:
            RuntimeError: The program ended, or was silent for too long, without it.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            for line in self._log.read_bytes().splitlines():
                with contextlib.suppress(ValueError):
                    members = json.loads(line)
                    if members.get("event") == event:
                        return dict(members)
            await asyncio.sleep(_POLL_SECONDS)
        tail = b"\n".join(self._log.read_bytes().splitlines()[-20:]).decode(errors="replace")
        raise RuntimeError(f"no event {event!r} (status {self._process.poll()}); the end of its log:\n{tail}")

    async def listening_port(self) -> int:
        """Wait until it listens, and return the port: for programs that take a free one and do not say which.

        Raises:
            RuntimeError: It ended, or did not listen in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            for one in self._watched.net_connections(kind="inet4"):
                if one.status in {psutil.CONN_LISTEN, psutil.CONN_NONE} and one.laddr:
                    return int(one.laddr.port)
            await asyncio.sleep(_POLL_SECONDS)
        raise RuntimeError(f"it does not listen; its log:\n{self._log.read_text(errors='replace')[-2000:]}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    async def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL if it does not follow."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(self._process.wait, STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)


@contextlib.asynccontextmanager
async def running(
    name: str,
    arguments: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    keep_input_open: bool = False,
) -> AsyncIterator[Running]:
    """Run a program while the block runs.

    Args:
        name: Of its log, `<name>.log` in `folder`.
        arguments: The program and its arguments.
        folder: Where the log goes.
        environment: Beyond this process' own.
        keep_input_open: For programs that ask an ended input again and again.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(  # noqa: ASYNC220  # nothing waits here
            [str(one) for one in arguments],
            cwd=ROOT,
            env=clean_environment() | dict(environment or {}),
            stdin=subprocess.PIPE if keep_input_open else subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
        )
    one = Running(process, log)
    try:
        yield one
    finally:
        await one.stop()


def script(name: str) -> Path:
    """The path of a console script of this environment."""
    return Path(sys.executable).with_name(name)


def module(name: str, *arguments: str) -> tuple[str | Path, ...]:
    """The command line that runs a module of this environment."""
    return (sys.executable, "-m", name, *arguments)


def clean_environment() -> dict[str, str]:
    """This process' environment without settings that would change what is measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MCBN_", "PYTHON"))}
