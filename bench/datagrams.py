"""CPU of a DTLS 1.2 echo for each datagram of 1000 bytes, beside pion's."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from bench.channel_end import IDENTITY, KEY, owned
from bench.harness import Goal, Options, Report, Sample, doubt, measure
from bench.processes import ROOT, Running, module, running

from mcbn_protocol.secret import Secret
from mcbn_workload.channels.datagrams import open_datagram_channel
from mcbn_workload.channels.dtls_psk import DtlsPskClient
from mcbn_workload.channels.psk import Terms

SUITE: Final = "PSK-AES128-GCM-SHA256"  # pion has no better one that we have too
DEFAULT: Final = "ECDHE-PSK-CHACHA20-POLY1305"
PION: Final = f"pion, {SUITE}"
OURS: Final = f"ours, {SUITE}"
OURS_DEFAULT: Final = f"ours, {DEFAULT}"
_DATAGRAMS: Final = 20_000
_WINDOW: Final = 8
_SIZE: Final = 1000
_MICROSECONDS: Final = 1_000_000
_LIMIT: Final = 0.7
_AGAIN_SECONDS: Final = 0.2


async def run(options: Options) -> Report:
    """Measure both with the same client, which keeps a few datagrams on their way."""
    count = options.operations(_DATAGRAMS)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command: list[str | Path] = [_pion(folder), "server", "0", IDENTITY, KEY.hex(), SUITE]
        pion = await stack.enter_async_context(running("pion", command, folder))
        ours = await stack.enter_async_context(running("ours", module("bench.channel_end", "dtls", SUITE), folder))
        pion_port, port = await pion.listening_port(), int((await ours.said("ready"))["port"])
        series = await measure(
            options.rounds,
            "us CPU",
            {
                PION: _echoes(pion, pion_port, SUITE, count),
                OURS: _echoes(ours, port, SUITE, count),
                OURS_DEFAULT: _echoes(ours, port, DEFAULT, count),
            },
        )
    yardstick = series[PION]
    return Report(
        f"DTLS 1.2 echo, {count} datagrams of {_SIZE} bytes a round, {_WINDOW} on their way",
        yardstick,
        list(series.values()),
        [Goal("our DTLS echo / pion's", series[OURS].ratio(yardstick), _LIMIT, doubt=doubt(yardstick, options.rounds))],
        notes=["CPU of the server's process, for one datagram in and one out. The client is not counted."],
    )


def _pion(folder: Path) -> Path:
    go = shutil.which("go")
    if go is None:
        raise SystemExit("for this suite install golang-go and golang-github-pion-dtls.v2-dev (Debian's packages)")
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(folder / "cache")}
    source, built = ROOT / "tests/interop/programs/pion_peer.go", folder / "pion_peer"
    subprocess.run([go, "build", "-o", built, source], env=environment, check=True)
    return built


def _echoes(process: Running, port: int, suite: str, count: int) -> Callable[[], Awaitable[Sample]]:
    client = _client(suite)

    async def one() -> Sample:
        async with await open_datagram_channel("127.0.0.1", port, client, **owned()) as channel:
            done, received = asyncio.Event(), 0

            def take(_data: bytes) -> None:
                nonlocal received
                received += 1
                if received < count:
                    channel.send(bytes(_SIZE))
                else:
                    done.set()

            channel.deliver_to(take)
            before = process.cpu_seconds()
            for _ in range(_WINDOW):
                channel.send(bytes(_SIZE))
            while not done.is_set():
                seen = received
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(done.wait(), _AGAIN_SECONDS)
                if received == seen and not done.is_set():
                    channel.send(bytes(_SIZE))  # all on their way were lost
            return Sample((process.cpu_seconds() - before) / received * _MICROSECONDS)

    return one


def _client(suite: str) -> DtlsPskClient:
    """Offers one suite, by a client whose own ones it replaces: ours would take the better of two."""
    client = DtlsPskClient(IDENTITY, Secret(KEY), terms=Terms((suite,)))
    client.context.set_cipher_list(suite.encode())
    return client
