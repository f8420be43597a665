"""A container engine and the system in it, by the commands that people type."""

import contextlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcbn_images.oci import Image, write_archive
from mcbn_simulator.compose.layouts import BuiltImage
from mcbn_simulator.machine import SimulatedMachine

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 120.0  # for anything that is waited for
NAMES = ("alice", "bob", "carol")
LAUNCHER = (
    *("launcher", "--socket", "/run/container_launcher/teeserver.sock"),
    *("--control", "/run/control/issuer.sock", "--machine", "/etc/vm/machine.json"),
)


def run(command: Sequence[str | Path], deadline: float = DEADLINE_SECONDS) -> str:
    """Run a program to its end; return what it prints. A failure shows what it said."""
    result = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=deadline,
        check=False,
    )
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@dataclass(frozen=True)
class Engine:
    """A container engine that answers, and the compose command that this machine has."""

    compose: tuple[str, ...]

    def docker(self, *words: str | Path) -> str:
        return run(["docker", *words])

    def inspect(self, container: str) -> Mapping[str, Any]:
        (one,) = json.loads(self.docker("inspect", container))
        return one


def engine_here() -> Engine | None:
    """Return the engine, if one answers."""

    def answers(*command: str) -> bool:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if not answers("docker", "info"):
        return None
    if shutil.which("docker-compose"):
        return Engine(("docker-compose",))
    return Engine(("docker", "compose")) if answers("docker", "compose", "version") else None


def machine_variables(machine: SimulatedMachine) -> list[str]:
    """What a VM's operator sets, as `NAME=value`."""
    return [f"{name}={value}" for name, value in machine.env_override.items()]


class Log:
    """What a container says, from its first word on, as JSON objects; other lines are kept as text."""

    def __init__(self, command: Sequence[str]) -> None:
        self.lines: list[str] = []
        self._silent = False
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self.lines.append(line.strip())
                self._news.notify_all()
        with self._news:
            self._silent = True
            self._news.notify_all()

    def events(self, **members: Any) -> list[Mapping[str, Any]]:
        """All that have these members so far."""
        found: list[Mapping[str, Any]] = []
        for line in list(self.lines):
            with contextlib.suppress(ValueError):
                one = json.loads(line)
                if isinstance(one, dict) and members.items() <= one.items():
                    found.append(one)
        return found

    def event(self, *, number: int = 1, **members: Any) -> Mapping[str, Any]:
        """Wait for an event with these members; `number` 2 is the second one."""
        with self._news:
            self._news.wait_for(lambda: len(self.events(**members)) >= number or self._silent, DEADLINE_SECONDS)
        found = self.events(**members)
        assert len(found) >= number, f"no {members} (number {number}) in:\n" + "\n".join(self.lines)
        return found[number - 1]

    def line(self, text: str) -> None:
        """Wait for a line with this text."""

        def said() -> bool:
            return any(text in line for line in self.lines)

        with self._news:
            self._news.wait_for(lambda: said() or self._silent, DEADLINE_SECONDS)
        assert said(), f"no {text!r} in:\n" + "\n".join(self.lines)


class System:
    """Everything that `docker-compose.yml` starts, from a prepared folder."""

    def __init__(self, engine: Engine, stage: Path) -> None:
        self.engine = engine
        self.stage = stage
        self.project = f"mcbn-test-{os.getpid()}"
        self._extra = 0

    def compose(self, *words: str | Path, deadline: float = DEADLINE_SECONDS) -> str:
        own = [f"MCBN_COMPOSE={self.stage}", *(self.stage / "env").read_text().split()]
        program = [*self.engine.compose, "--project-name", self.project]
        return run(["/usr/bin/env", *own, *program, *words], deadline)

    def container(self, service: str) -> str:
        return self.compose("ps", "--quiet", service).strip()

    def inspect(self, service: str) -> Mapping[str, Any]:
        return self.engine.inspect(self.container(service))

    def broker(self, participant: str, *words: str) -> str:
        """Run a command of `mcbn-broker` in a participant's container."""
        program = ("/usr/bin/python3.11", "-I", "-m", "mcbn_broker")
        return self.compose("exec", "-T", participant, *program, *words)

    def own_file(self, path: Path, text: str) -> None:
        """Write a file that only the containers' user can read."""
        owner = path.parent.stat()
        path.touch(mode=0o600)
        path.write_text(text)
        os.chown(path, owner.st_uid, owner.st_gid)

    def machine(self, operator: str) -> SimulatedMachine:
        return SimulatedMachine.load(self.stage / f"vm-{operator}" / "machine.json")

    def image(self, role: str) -> BuiltImage:
        return BuiltImage.read(self.stage / "images" / role)

    @contextlib.contextmanager
    def log(self, container: str) -> Iterator[Log]:
        """Follow what a container says while the block runs."""
        log = Log(["docker", "logs", "--follow", container])
        try:
            yield log
        finally:
            log.close()

    @contextlib.contextmanager
    def client_vm(
        self, machine: SimulatedMachine, *, operator: str, image: str = "mcbn-client:latest"
    ) -> Iterator[Log]:
        """Run one more VM that asks for the client's role: a launcher and a workload; give what the workload says.

        Args:
            machine: What its tokens say.
            operator: In whose network it stands.
            image: What it runs, by the name with which it was loaded.
        """
        self._extra += 1
        launcher, workload = (f"{self.project}-{self._extra}-{part}" for part in ("launcher", "workload"))
        vm, sockets = self._folders(f"extra-{self._extra}")
        (vm / "machine.json").write_text(json.dumps(machine.to_json()))
        try:
            self._run(launcher, "none", "mcbn-simulator", *LAUNCHER, mounts=self._mounts(vm, sockets))
            with self.log(launcher) as log:
                log.line("PROTECTS NOTHING")
            self._run(workload, f"{self.project}_{operator}", image, mounts=self._mounts(vm, sockets))
            with self.log(workload) as log:
                yield log
        finally:
            self.engine.docker("rm", "--force", launcher, workload)

    def _run(self, name: str, network: str, image: str, *words: str, mounts: Sequence[str]) -> None:
        owner = (self.stage / "post").stat()
        confined = ("--read-only", "--cap-drop", "ALL", "--user", f"{owner.st_uid}:{owner.st_gid}")
        variables = [word for one in machine_variables(self.machine("frank")) for word in ("--env", one)]
        where = ("--network", network, "--name", name)
        self.engine.docker("run", "--detach", *confined, *where, *variables, *mounts, image, *words)

    def _mounts(self, vm: Path, sockets: Path) -> list[str]:
        mounts = {
            self.stage / "run" / "control": "/run/control",
            self.stage / "post": "/run/mcbn:ro",
            vm: "/etc/vm:ro",
            sockets: "/run/container_launcher",
        }
        return [word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}")]

    def _folders(self, name: str) -> tuple[Path, Path]:
        """Make a VM's folder and its launcher's, for the containers' user."""
        owner = (self.stage / "run" / "frank").stat()
        folders = self.stage / f"vm-{name}", self.stage / "run" / name
        for folder in folders:
            folder.mkdir()
            os.chown(folder, owner.st_uid, owner.st_gid)
        return folders

    def load(self, image: Image, name: str) -> None:
        """Load an image into the engine under a name."""
        archive = self.stage / f"{name}.tar"
        write_archive(image, archive, f"{name}:latest")
        self.engine.docker("load", "--input", archive)

    def last_words(self) -> str:
        return self.compose("logs", "--no-color", "--tail", "20")
