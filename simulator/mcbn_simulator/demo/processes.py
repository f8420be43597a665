"""Processes that the demo starts, listens to, and never leaves behind."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from mcbn_simulator.demo.events import Event
from mcbn_simulator.errors import SimulatorError

TAIL_LINES: Final = 12
STOP_SECONDS: Final = 5.0
WAIT_SECONDS: Final = 40.0
_LINE_BYTES: Final = 1024 * 1024
_BECOME: Final = str(Path(__file__).with_name("become.py"))


class DemoError(SimulatorError):
    """The demo cannot go on.

    Args:
        what: Where, and what was seen there.
        log: The end of the log that tells why.
    """

    def __init__(self, what: str, log: Sequence[str] = ()) -> None:
        super().__init__("\n".join([what, *log]))
        self.what = what
        self.log = list(log)


class Process:
    """One running program and everything that it has said so far.

    Attributes:
        name: What logs and errors call it.
        pid: Its process, which leads a session of its own.
        events: Each line of standard error and standard output, in order of arrival.
        printed: The lines of standard output alone.
        status: The exit status once it has ended, negative for a signal.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.pid = process.pid
        self.events: list[Event] = []
        self.printed: list[str] = []
        self.status: int | None = None
        self._process = process
        self._log = log
        self._said = asyncio.Condition()

    def signal(self, number: signal.Signals) -> None:
        """Signal the program's whole session; one that has ended is left alone, its number may be another's."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def run(self) -> None:
        """Read both streams until the program has ended."""
        streams = (self._process.stderr, None), (self._process.stdout, self.printed)
        with self._log.open("wb") as log:
            async with asyncio.TaskGroup() as group:
                for stream, lines in streams:
                    group.create_task(self._read(stream, lines, log))
        self.status = await self._process.wait()
        async with self._said:
            self._said.notify_all()

    async def ended(self, seconds: float = WAIT_SECONDS) -> int:
        """Wait for the end; returns the exit status, negative for a signal.

        Raises:
            DemoError: It goes on for longer.
        """
        await self._until(lambda: self.status is not None, "its end", seconds)
        return self.status if self.status is not None else 0

    async def event(
        self, what: str, matches: Callable[[Event], bool], *, after: int = 0, seconds: float = WAIT_SECONDS
    ) -> Event:
        """Wait for an event, also one that has been said already.

        Args:
            what: The event, for people.
            matches: Whether a line is it.
            after: How many of the first lines not to look at.
            seconds: How long to wait.

        Raises:
            DemoError: The program ends, or is silent for too long, without it.
        """

        def found() -> Event | None:
            return next((event for event in self.events[after:] if matches(event)), None)

        await self._until(lambda: found() is not None or self.status is not None, what, seconds)
        event = found()
        if event is None:
            raise DemoError(f"{self.name} ended with status {self.status} before {what}.", self.tail())
        return event

    def tail(self) -> list[str]:
        """The last lines of its log, for a person who asks why."""
        return [f"{self.name}: {event.text}" for event in self.events[-TAIL_LINES:]] or [f"{self.name} said nothing."]

    async def _until(self, is_so: Callable[[], bool], what: str, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds), self._said:
                await self._said.wait_for(is_so)
        except TimeoutError:
            raise DemoError(f"{self.name}: no sign of {what} in {seconds:g} s.", self.tail()) from None

    async def _read(self, stream: asyncio.StreamReader | None, lines: list[str] | None, log: BinaryIO) -> None:
        assert stream is not None  # noqa: S101  # for the type checker: it was started with pipes
        async for line in stream:
            log.write(line)
            log.flush()
            async with self._said:
                self.events.append(Event.parse(line, at=time.monotonic()))
                if lines is not None:
                    lines.append(self.events[-1].text)
                self._said.notify_all()


class Supervisor:
    """Starts programs, each in a session of its own, and ends all of them; see `supervised`."""

    def __init__(self, logs: Path, group: asyncio.TaskGroup) -> None:
        self._logs = logs
        self._group = group
        self._running: dict[Process, asyncio.Task[None]] = {}

    async def start(
        self,
        name: str,
        program: str,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        sockets: Mapping[str, socket.socket] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start a program.

        Args:
            name: Its name in the demo, unique: it names the log.
            program: A console script beside this interpreter, or a path.
            arguments: Its arguments.
            environment: Its environment beyond the few variables that every process gets.
            sockets: Listening sockets to hand over, by name.
            cwd: Its working directory.
        """
        fds = {socket_name: one.fileno() for socket_name, one in (sockets or {}).items()}
        handed = ":".join(f"{socket_name}={number}" for socket_name, number in fds.items())
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", _BECOME, str(os.getpid()), handed, script(program)),
            *map(str, arguments),
            env=base_environment() | dict(environment or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=tuple(fds.values()),
            start_new_session=True,  # Ctrl-C at the terminal reaches the demo alone, which then ends them in order
            limit=_LINE_BYTES,
            cwd=cwd,
        )
        process = Process(name, started, self._logs / f"{name}.log")
        task = self._group.create_task(process.run())
        self._running[process] = task
        task.add_done_callback(lambda _task: self._running.pop(process, None))
        return process

    async def stop(self, *processes: Process) -> None:
        """End programs: SIGTERM, and SIGKILL for those that do not follow in time."""
        tasks = [self._running[one] for one in processes if one in self._running]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in processes:
                process.signal(number)
            if tasks:
                await asyncio.wait(tasks, timeout=STOP_SECONDS)

    async def stop_all(self) -> None:
        """End everything that still runs."""
        await self.stop(*self._running)


@contextlib.asynccontextmanager
async def supervised(logs: Path) -> AsyncIterator[Supervisor]:
    """Run programs as long as the block runs; at its end, however it ends, none is left."""
    failure: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        supervisor = Supervisor(logs, group)
        try:
            yield supervisor
        except BaseException as error:  # noqa: BLE001  # carried around the group, which would wrap it
            failure = error
        finally:
            await supervisor.stop_all()
    if failure is not None:
        raise failure


def script(program: str) -> str:
    """The path of a console script of this environment, or a path as it is."""
    return program if "/" in program else str(Path(sys.executable).with_name(program))


def base_environment() -> dict[str, str]:
    """What every process gets: nothing of this shell's that could change what it does (a proxy, a MCBN_* setting)."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}
