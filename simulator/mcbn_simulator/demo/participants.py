"""A participant: its folder and the commands it types; and one whose broker runs on this machine."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final

import httpx

from mcbn_simulator.demo.listeners import loopback_listener, url_of
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.processes import WAIT_SECONDS, DemoError, Process, Supervisor
from mcbn_simulator.demo.together import together
from mcbn_simulator.demo.workspace import Workspace

NAMES: Final = ("alice", "bob", "carol")
PROGRAM: Final = "mcbn-broker"
_POLL_SECONDS: Final = 0.1


class Participant:
    """Alice, Bob or Carol: everything that one company has, and what it does with it.

    Attributes:
        name: Its name in the roster.
        title: Its name, for people.
        desk: Its folder.
        url: Where its broker answers.

    Args:
        name: Its name in the roster.
        url: Where its broker answers.
        space: The demo's folder.
        supervisor: Runs its programs.
        narrator: Tells what it types.
    """

    def __init__(self, name: str, url: str, space: Workspace, supervisor: Supervisor, narrator: Narrator) -> None:
        self.name = name
        self.title = name.capitalize()
        self.desk = space.desk(name)
        self.url = url
        self._supervisor = supervisor
        self._narrator = narrator
        self._commands = 0
        _write_private(self.desk / "passphrase", secrets.token_urlsafe())

    async def types(self, *arguments: str | Path, shown: bool = True) -> Process:
        """Run one command in its folder, to its end.

        Raises:
            DemoError: It fails.
        """
        if shown:
            self._narrator.command(self.name, PROGRAM, arguments)
        self._commands += 1
        name = f"{self.name}-{self._commands:02}-{arguments[0]}"
        process = await self._start(name, *arguments)
        if await process.ended() != 0:
            typed = f"{PROGRAM} {' '.join(map(str, arguments))}"
            raise DemoError(f"{self.title}'s command failed: {PROGRAM} {arguments[0]}", [typed, *process.tail()])
        return process

    async def _start(
        self, name: str, *arguments: str | Path, sockets: dict[str, socket.socket] | None = None
    ) -> Process:
        return await self._supervisor.start(
            name,
            PROGRAM,
            *arguments,
            environment={"MCBN_DATA_DIR": str(self.desk / "state"), "MCBN_KEK_FILE": str(self.desk / "kek")},
            sockets=sockets,
            cwd=self.desk,
        )


class Host(Participant):
    """A participant whose broker runs on this machine.

    Args:
        name: Its name in the roster.
        space: The demo's folder.
        supervisor: Runs its programs.
        narrator: Tells what it types.
        sockets: Keeps its sockets open until its broker has them.
    """

    def __init__(
        self,
        name: str,
        space: Workspace,
        supervisor: Supervisor,
        narrator: Narrator,
        sockets: contextlib.ExitStack,
    ) -> None:
        self._sockets = {part: sockets.enter_context(loopback_listener()) for part in ("broker", "health")}
        self._urls = {part: url_of(listener) for part, listener in self._sockets.items()}
        super().__init__(name, self._urls["broker"], space, supervisor, narrator)

    @property
    def listeners(self) -> tuple[socket.socket, ...]:
        """The sockets that its broker will serve."""
        return tuple(self._sockets.values())

    @property
    def port(self) -> int:
        """Where on this machine its broker answers."""
        return int(self._sockets["broker"].getsockname()[1])

    async def serve(self, *arguments: str, shown: bool) -> Process:
        """Start its broker on the sockets that wait for it, and return when it is ready.

        Args:
            arguments: Of `mcbn-broker serve`.
            shown: Whether to show the command.
        """
        if shown:
            self._narrator.command(self.name, PROGRAM, ["serve", *arguments])
        process = await self._start(f"{self.name}-serve", "serve", *arguments, sockets=self._sockets)
        for listener in self._sockets.values():
            listener.close()
        await self._ready(process)
        return process

    async def _ready(self, process: Process) -> None:
        """Ask /readyz until it says yes; the first question waits in the socket until the broker has started."""
        answer = "no answer"
        try:
            async with (
                asyncio.timeout(WAIT_SECONDS),
                httpx.AsyncClient(base_url=self._urls["health"], trust_env=False, timeout=WAIT_SECONDS) as client,
            ):
                while (response := await client.get("/readyz")).status_code != httpx.codes.OK:
                    answer = response.text
                    await asyncio.sleep(_POLL_SECONDS)
        except (TimeoutError, httpx.HTTPError) as error:
            raise DemoError(f"{process.name} is not ready ({error!r}): {answer}", process.tail()) from error


@contextlib.contextmanager
def people(space: Workspace, supervisor: Supervisor, narrator: Narrator) -> Generator[list[Host]]:
    """Give everybody; their sockets stay open while the block runs, or until their brokers have them."""
    with contextlib.ExitStack() as sockets:
        yield [Host(name, space, supervisor, narrator, sockets) for name in NAMES]


async def serve_all(hosts: Sequence[Host], *arguments: str) -> dict[str, Process]:
    """Start everybody's broker, and return them by participant when all are ready; the first one's command is shown.

    Args:
        hosts: Everybody.
        arguments: Of `mcbn-broker serve`.
    """
    started = await together(*(one.serve(*arguments, shown=one is hosts[0]) for one in hosts))
    return {one.name: process for one, process in zip(hosts, started, strict=True)}


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text + "\n", encoding="ascii")
