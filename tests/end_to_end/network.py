"""A network of three participants, made with the commands that participants use; brokers run on copies of one desk."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
from rich.console import Console

from mcbn_protocol.binding import audience, binding_hash, nonces
from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.messages import Challenge, ChallengeRequest, Problem, Release, ReleaseRequest
from mcbn_protocol.reference_values import EvidenceKind
from mcbn_protocol.roster import Roster
from mcbn_protocol.sealing import SEED_BYTES, Kem, RecipientKey
from mcbn_simulator.demo.ceremony import Ceremony
from mcbn_simulator.demo.narration import Narrator
from mcbn_simulator.demo.participants import NAMES, people
from mcbn_simulator.demo.processes import base_environment, script, supervised
from mcbn_simulator.demo.workspace import Workspace
from mcbn_simulator.machine import SimulatedMachine

DEADLINE_SECONDS = 120.0  # for anything that a process is waited for
OWNER = NAMES[0]
# Where Yama restricts ptrace(2) to descendants, a broker has to let the test's strace in: PR_SET_PTRACER, ANY.
_TRACEABLE = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)\n"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


class Program:
    """A running executable. Its standard error is read as it comes, so that it never blocks."""

    def __init__(
        self, command: Sequence[str | Path], *, environment: Mapping[str, str], cwd: Path | None = None
    ) -> None:
        self.said: list[str] = []
        self._silent = False
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [str(word) for word in command],
            env=base_environment() | dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.process.kill()
        self.ended()

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.said.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._silent = True
            self._news.notify_all()

    def line(self, text: str, *, after: int = 0) -> str:
        """Wait for a line with this text, also one that was said already; not among the first `after`."""

        def found() -> str | None:
            return next((line for line in self.said[after:] if text in line), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None or self._silent, DEADLINE_SECONDS)
        line = found()
        assert line is not None, "\n".join([f"no {text!r} from a program that {self._state()}; it said:", *self.said])
        return line

    def _state(self) -> str:
        """What can be told of it from outside, for a person who asks why it does not go on."""
        try:
            used = sum(psutil.Process(self.pid).cpu_times()[:2])
            waits = Path(f"/proc/{self.pid}/wchan").read_text(encoding="ascii")
        except (psutil.Error, OSError):
            return f"has ended with {self.process.poll()}"
        return f"runs, took {used:.1f} s of CPU, and waits in {waits or 'nothing'}"

    def ended(self) -> int:
        """Wait for the end; return the exit status, negative for a signal."""
        status = self.process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ended()


@dataclass(frozen=True)
class Desk:
    """One participant's folder: its data directory, its key-encryption key, its files."""

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def database(self) -> Path:
        return self.state / "broker.sqlite3"

    @property
    def environment(self) -> dict[str, str]:
        return {"MCBN_DATA_DIR": str(self.state), "MCBN_KEK_FILE": str(self.root / "kek")}

    def copy(self, to: Path) -> "Desk":
        return Desk(Path(shutil.copytree(self.root, to)))

    def command(self, *arguments: str | Path, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command of `mcbn-broker` to its end."""
        return subprocess.run(
            [*prefix, script("mcbn-broker"), *map(str, arguments)],
            env=base_environment() | self.environment,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    def releases(self) -> set[tuple[int, str]]:
        """Sequence and hash of every recorded release."""
        return {(one["sequence"], one["hash"]) for one in self.audit_rows() if one["record"]["kind"] == "release"}

    def audit_rows(self) -> list[dict[str, Any]]:
        """All audit records as stored, without the product's help."""
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT sequence, record, hash FROM audit ORDER BY sequence").fetchall()
        return [{"sequence": number, "record": json.loads(record), "hash": end.hex()} for number, record, end in rows]


class Broker(Program):
    """A running `mcbn-broker serve` on free ports."""

    def __init__(self, desk: Desk, prefix: Sequence[str] = (), **settings: str) -> None:
        self.desk = desk
        addresses = {"MCBN_LISTEN": "127.0.0.1:0", "MCBN_HEALTH_LISTEN": "127.0.0.1:0"}
        become = (sys.executable, "-I", "-S", "-c", _TRACEABLE)
        super().__init__(
            [*prefix, *become, script("mcbn-broker"), "serve"],
            environment=desk.environment | addresses | settings,
            cwd=desk.root,
        )

    def ready(self) -> Self:
        """Wait until it is ready, the attestation service's keys included."""
        listening = json.loads(self.line('"listening"'))
        self.address = str(listening["address"])
        self.url, self.health = f"http://{self.address}", f"http://{listening['health']}"
        with httpx.Client(trust_env=False, timeout=DEADLINE_SECONDS) as client:
            until = time.monotonic() + DEADLINE_SECONDS
            while (answer := client.get(f"{self.health}/readyz")).status_code != httpx.codes.OK:
                assert time.monotonic() < until, answer.text
                time.sleep(0.02)
        return self

    def connect(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=DEADLINE_SECONDS)


@dataclass(frozen=True)
class Network:
    """What everybody agreed on, and an attested workload of it."""

    post: Path
    desks: Mapping[str, Desk]
    roster: Roster
    agreed: AgreedManifest
    machine: SimulatedMachine
    issuer: httpx.Client

    @property
    def desk(self) -> Desk:
        """The desk of the participant whose broker is put to the test. Only copies of it are used."""
        return self.desks[OWNER]

    def challenge(self, client: httpx.Client) -> str:
        answer = client.post("/v1/challenges", content=self._challenge_request(), headers=_JSON)
        assert answer.status_code == httpx.codes.OK, answer.text
        return Challenge.parse(answer.content).challenge

    def _challenge_request(self) -> bytes:
        return ChallengeRequest(Role.CLIENT, self.agreed.hash).to_bytes()

    def request(self, challenge: str) -> bytes:
        """A release request with a fresh recipient key and fresh evidence for this challenge."""
        kem = Kem.MLKEM768_X25519
        key = RecipientKey.from_seed(kem, os.urandom(SEED_BYTES))
        binding = binding_hash(
            roster_hash=self.roster.hash,
            participant=OWNER,
            role=Role.CLIENT,
            manifest_hash=self.agreed.hash,
            challenge=challenge,
            kem=kem,
            recipient_key=key.public_bytes,
        )
        request = ReleaseRequest(
            challenge=challenge,
            role=Role.CLIENT,
            manifest_hash=self.agreed.hash,
            kind=EvidenceKind.CONFIDENTIAL_SPACE,
            unverified_token=self._token(nonces(challenge, binding)),
            kem=kem,
            recipient_key=key.public_bytes,
            audit_heads=(),
        )
        return request.to_bytes()

    def _token(self, asked: tuple[str, str]) -> str:
        body = {
            "machine": self.machine.to_json(),
            "audience": audience(self.roster.hash, OWNER),
            "nonces": asked,
            "token_type": "OIDC",
        }
        return str(self.issuer.post("/token", json=body).raise_for_status().json()["token"])

    @staticmethod
    def challenge_in(request: bytes) -> str:
        return ReleaseRequest.parse(request).challenge

    def fresh_request(self, client: httpx.Client) -> bytes:
        return self.request(self.challenge(client))

    def released(self, answer: httpx.Response) -> Release:
        """The release in an answer; anything else fails."""
        assert answer.status_code == httpx.codes.OK, answer.text
        return Release.parse(answer.content, participant=OWNER, roster=self.roster)


_JSON = {"content-type": "application/json"}


def ask(client: httpx.Client, request: bytes) -> httpx.Response:
    return client.post("/v1/releases", content=request, headers=_JSON)


def code_of(answer: httpx.Response) -> str:
    """The code of a refusal; anything else fails."""
    return Problem.parse(answer.content).reason.code


@contextlib.contextmanager
def agreed_network(space: Workspace) -> Iterator[Network]:
    """Let three participants agree, with the real commands; the attestation service runs as long as the block."""
    control = space.root / "issuer.sock"
    with Program([script("mcbn-simulator"), "issuer", "--control", control], environment={}) as issuer:
        url = json.loads(issuer.line("PROTECTS NOTHING: ").partition("NOTHING: ")[2])["url"]
        roster, machine = asyncio.run(_agree(space, url))
        bundle = (space.post / "bundle.json").read_bytes()
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(control)), base_url="http://control") as client:
            desks = {name: Desk(space.desk(name)) for name in NAMES}
            yield Network(space.post, desks, roster, AgreedManifest.parse(bundle, roster), machine, client)


async def _agree(space: Workspace, issuer: str) -> tuple[Roster, SimulatedMachine]:
    narrator = Narrator(Console(quiet=True))
    async with supervised(space.logs) as supervisor:
        with people(space, supervisor, narrator) as participants:
            roster, machines = await Ceremony(participants, space.post).agree_on_two_images(issuer)
    return Roster.parse(roster), machines[Role.CLIENT]
