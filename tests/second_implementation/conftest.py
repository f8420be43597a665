"""Three brokers that serve, and a VM's launcher, for the second implementation."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcbn_simulator.demo import terms
from mcbn_simulator.demo.processes import base_environment, script
from mcbn_simulator.demo.workspace import Workspace, workspace
from tests.end_to_end.network import DEADLINE_SECONDS, Broker, Desk, Network, Program, agreed_network

CLIENT = Path(__file__).with_name("client.py")


@dataclasses.dataclass(frozen=True)
class Served:
    """A network whose brokers and launcher run."""

    network: Network
    urls: dict[str, str]
    launcher: Path
    desks: dict[str, Desk]
    folder: Path

    @property
    def roster(self) -> Path:
        return self.folder / "roster.json"

    def second(self, *arguments: str, roster: Path | None = None, **urls: str) -> subprocess.CompletedProcess[str]:
        """Run the second implementation, apart from everything of ours; some brokers may be elsewhere."""
        brokers = [f"{name}={url}" for name, url in (self.urls | urls).items()]
        command = [
            sys.executable,
            "-I",
            CLIENT,
            "--launcher",
            self.launcher,
            *arguments,
            roster or self.roster,
            *brokers,
        ]
        return subprocess.run(
            list(map(str, command)),
            env=base_environment(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    def ours(self) -> dict[str, Any]:
        """What our own workload logs when it has gathered an epoch's keys from the same brokers."""
        operator = {f"MCBN_BROKER_{name.upper()}": url for name, url in self.urls.items()}
        command: list[str | Path] = [script("mcbn-workload"), "client", "--config", self.folder / "workload.toml"]
        environment = operator | {"MCBN_CONNECT": "127.0.0.1:9"}
        with Program(command, environment=environment, cwd=self.folder) as workload:
            event: dict[str, Any] = json.loads(workload.line('"key_check"'))
            return event


@contextlib.contextmanager
def lying(url: str, path: str, alter: Callable[[bytes], bytes]) -> Iterator[str]:
    """Serve a broker's answers, those to one path altered; gives the URL."""

    class Between(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {"content-type": self.headers.get("content-type", "application/json")}
            answer = httpx.request(self.command, url + self.path, content=body, headers=headers, trust_env=False)
            altered = alter(answer.content) if self.path == path else answer.content
            self.send_response(answer.status_code)
            self.send_header("content-type", answer.headers["content-type"])
            self.send_header("content-length", str(len(altered)))
            self.end_headers()
            self.wfile.write(altered)

        do_POST = do_GET  # noqa: N815  the base class's name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Between) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def through_liar() -> Callable[..., contextlib.AbstractContextManager[str]]:
    return lying


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with contextlib.ExitStack() as running:
        patch = running.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(terms, "_HEAD", terms._HEAD.replace('["mlkem768-x25519"]', '["mlkem768-x25519", "x25519"]'))
        space = running.enter_context(workspace(keep=False))
        network = running.enter_context(agreed_network(space))
        desks = {name: desk.copy(space.root / f"{name}-serves") for name, desk in network.desks.items()}
        brokers = {name: running.enter_context(Broker(desk)) for name, desk in desks.items()}
        urls = {name: broker.ready().url for name, broker in brokers.items()}
        folder = _vm(space, network)
        control = space.root / "issuer.sock"
        launcher: list[str | Path] = [
            script("mcbn-simulator"),
            "launcher",
            "--socket",
            folder / "tee.sock",
            "--control",
            control,
        ]
        program = running.enter_context(Program([*launcher, "--machine", folder / "machine.json"], environment={}))
        program.line("PROTECTS NOTHING")
        yield Served(network, urls, folder / "tee.sock", desks, folder)


def _vm(space: Workspace, network: Network) -> Path:
    """The folder of a VM with the client's image, as far as our own workload needs one."""
    folder = space.vm("client")
    (folder / "machine.json").write_text(json.dumps(network.machine.to_json()))
    (folder / "roster.json").write_bytes((network.desk.root / "roster.json").read_bytes())
    members = {"role": "client", "roster": "roster.json", "channel": "tls13-psk", "engine": "pyopenssl"}
    members |= {"launcher_socket": str(folder / "tee.sock"), "listen": f"unix:{folder / 'app.sock'}"}
    lines = [f"{name} = {json.dumps(value)}" for name, value in members.items()]
    (folder / "workload.toml").write_text("\n".join([*lines, "insecure_loopback_brokers = true", ""]))
    return folder
