"""A real broker process and the yardstick beside it, ready to be loaded."""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.agreement import set_up_broker
from bench.load import post
from bench.processes import Running, module, running, script
from bench.workloads import Workloads

from mcbn_simulator.issuer import Issuer
from mcbn_simulator.serving import serve_issuer


@dataclass(frozen=True)
class Served:
    """A running program and where it answers (`HOST:PORT`)."""

    process: Running
    address: str


class Scene:
    """A folder with a broker's data, an issuer that this process serves, and what starts the programs."""

    def __init__(self, folder: Path, issuer: Issuer) -> None:
        self.folder = folder
        self._broker = set_up_broker(folder, issuer.issuer_url)
        self.workloads = Workloads(self._broker, issuer)

    @contextlib.asynccontextmanager
    async def broker(self, program: Sequence[str | Path] | None = None) -> AsyncIterator[Served]:
        """Run `mcbn-broker serve`, or the same under another program, while the block runs."""
        command = (*(program or (script("mcbn-broker"),)), "serve")
        async with running("broker", command, self.folder, self._broker.environment) as process:
            yield Served(process, (await process.said("listening"))["address"])

    @contextlib.asynccontextmanager
    async def echo(self) -> AsyncIterator[Served]:
        """Run the yardstick while the block runs."""
        async with running("echo", module("bench.echo"), self.folder) as process:
            yield Served(process, (await process.said("listening"))["address"])

    @property
    def ask_for_challenge(self) -> bytes:
        """The HTTP request for a challenge."""
        return post("/v1/challenges", self.workloads.challenge_request().to_bytes())


@contextlib.asynccontextmanager
async def new_scene() -> AsyncIterator[Scene]:
    """Make a scene that is gone at the end."""
    issuer = Issuer()
    with tempfile.TemporaryDirectory(prefix="mcbn-bench-") as folder:
        async with serve_issuer(issuer):
            yield Scene(Path(folder), issuer)
