"""CPU of a TLS 1.3 PSK server: our tunnel beside stunnel, our endpoint beside `openssl s_server`."""

import asyncio
import contextlib
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from bench.channel_end import IDENTITY, KEY, lookup, owned
from bench.harness import Goal, Options, Report, Sample, doubt, measure
from bench.processes import Running, module, running

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import openssl
from mcbn_workload.channels.streams import Channel, open_channel
from mcbn_workload.channels.tls_psk import TlsPskClient

HANDSHAKES: Final = 300
GIGABYTE: Final = 1 << 30
MEGABYTES: Final = 256
_PIECE: Final = bytes(64 * 1024)
_MILLISECONDS: Final = 1000

Ends = dict[str, tuple[Running, int]]


async def run(options: Options) -> Report:
    """Measure handshakes, and bytes in both directions."""
    missing = [name for name in ("stunnel4", "openssl") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"for this suite install {', '.join(missing)} (Debian's packages of these names)")
    client, same_group = TlsPskClient(IDENTITY, Secret(KEY)), TlsPskClient(IDENTITY, Secret(KEY))
    openssl.set_groups(same_group.context, b"X25519")  # what `s_server` of an older OpenSSL takes from the other client
    assert lookup(IDENTITY.encode()) is not None
    handshakes = options.operations(HANDSHAKES)
    size = options.operations(MEGABYTES) * 1024 * 1024
    async with _ends() as ends:
        runs: dict[str, Callable[[], Awaitable[Sample]]] = {}
        for name, (process, port) in ends.items():
            if name.endswith("quiet"):
                runs[f"{name.split()[0]}: GB in"] = _bytes(process, port, client, size, incoming=True)
                continue
            runs[f"{name}: handshake"] = _handshakes(process, port, client, handshakes)
            if name == "endpoint":
                runs[f"{name}: handshake, X25519"] = _handshakes(process, port, same_group, handshakes)
            if name != "s_server":
                runs[f"{name}: GB in"] = _bytes(process, port, client, size, incoming=True)
                runs[f"{name}: GB out"] = _bytes(process, port, client, size, incoming=False)
        series = await measure(options.rounds, "ms CPU", runs)
    goals = [
        Goal(
            f"{ours}: {what}{more} / {theirs}",
            series[f"{ours}: {what}{more}"].ratio(series[f"{theirs}: {what}"]),
            limit,
            doubt=doubt(series[f"{theirs}: {what}"], options.rounds),
        )
        for ours, theirs, what, more, limit in (
            ("tunnel", "stunnel", "handshake", "", 0.75),
            ("tunnel", "stunnel", "GB in", "", 1.0),
            ("tunnel", "stunnel", "GB out", "", 1.0),
            ("endpoint", "s_server", "handshake", "", 1.2),
            ("endpoint", "s_server", "handshake", ", X25519", 1.2),
            ("endpoint", "s_server", "GB in", "", 1.2),
        )
    ]
    return Report(
        f"TLS 1.3 PSK servers: {handshakes} handshakes and {size >> 20} MiB each way a round",
        series["stunnel: handshake"],
        list(series.values()),
        goals,
        notes=["CPU of the server's process alone. The client and the application behind tunnels are not counted."],
    )


@contextlib.asynccontextmanager
async def _ends() -> AsyncIterator[Ends]:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        application = await stack.enter_async_context(await asyncio.start_server(_application, "127.0.0.1", 0))
        target = str(application.sockets[0].getsockname()[1])
        ends: Ends = {}
        for name, arguments in (("tunnel", ("tunnel", target)), ("endpoint", ("endpoint",))):
            process = await stack.enter_async_context(running(name, module("bench.channel_end", *arguments), folder))
            ends[name] = process, int((await process.said("ready"))["port"])
        (folder / "psk").write_text(f"{IDENTITY}:{KEY.hex()}\n", encoding="ascii")
        (folder / "psk").chmod(0o600)
        lines = ["foreground = yes", "pid =", "debug = notice", "[peer]", "accept = 127.0.0.1:0"]
        lines += [f"connect = 127.0.0.1:{target}", f"PSKsecrets = {folder / 'psk'}", "ciphers = PSK"]
        (folder / "stunnel.conf").write_text("\n".join([*lines, "sslVersion = TLSv1.3", ""]), encoding="ascii")
        ends["stunnel"] = await _listening(stack, folder, "stunnel", "stunnel4", folder / "stunnel.conf")
        psk = ("-psk", KEY.hex(), "-psk_identity", IDENTITY, "-nocert", "-tls1_3", "-accept", "127.0.0.1:0")
        ends["s_server"] = await _listening(stack, folder, "s_server", "openssl", "s_server", *psk, "-rev")
        ends["s_server quiet"] = await _listening(stack, folder, "quiet", "openssl", "s_server", *psk, "-quiet")
        yield ends


async def _listening(
    stack: contextlib.AsyncExitStack, folder: Path, name: str, *command: str | Path
) -> tuple[Running, int]:
    process = await stack.enter_async_context(running(name, command, folder, keep_input_open=True))
    return process, await process.listening_port()


async def _application(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Stands behind the tunnels; see `channel_end` for what the first byte means."""
    first = await reader.read(64 * 1024)
    if first[:1] == b"e":
        writer.write(first)
    elif found := re.match(rb"o(\d+)", first):
        left = int(found[1])
        while left:
            piece = _PIECE[:left]
            writer.write(piece)
            left -= len(piece)
            await writer.drain()
        writer.close()
        return
    while await reader.read(256 * 1024):
        pass
    writer.close()


def _handshakes(process: Running, port: int, client: TlsPskClient, count: int) -> Callable[[], Awaitable[Sample]]:
    async def one() -> Sample:
        before = process.cpu_seconds()
        for _ in range(count):
            channel = await open_channel("127.0.0.1", port, client, **owned())
            await channel.write(b"e\n")
            await channel.read()
            await channel.close()
        return Sample((process.cpu_seconds() - before) / count * _MILLISECONDS)

    return one


def _bytes(
    process: Running, port: int, client: TlsPskClient, size: int, *, incoming: bool
) -> Callable[[], Awaitable[Sample]]:
    async def one() -> Sample:
        channel = await open_channel("127.0.0.1", port, client, **owned())
        before = process.cpu_seconds()
        await (_send(channel, size) if incoming else _fetch(channel, size))
        used = process.cpu_seconds() - before
        await channel.close()
        return Sample(used / size * GIGABYTE * _MILLISECONDS)

    return one


async def _send(channel: Channel, size: int) -> None:
    await channel.write(b"d")
    for _ in range(size // len(_PIECE)):
        await channel.write(_PIECE)
    await channel.write_eof()
    while await channel.read():  # until the other end has taken everything and closes
        pass


async def _fetch(channel: Channel, size: int) -> None:
    await channel.write(b"o%d" % size)
    left = size
    while left and (data := await channel.read()):
        left -= len(data)
    if left:
        raise RuntimeError(f"{left} of {size} bytes did not come")
