"""A gigabyte through the tunnel: every byte arrives, and neither end's memory grows with it."""

import contextlib
import hashlib
import json
import random
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

IDENTITY = "mcbn1.AAECAwQFBgcICQoLDA0ODw"
KEY = bytes(range(32))
BLOCK = random.Random(4).randbytes(1_000_000)  # noqa: S311  # data, not a secret
WARM_BLOCKS, BLOCKS = 64, 1000
GROWTH_BYTES_MAX = 16 * 1024 * 1024
SOCKET_SECONDS = 60  # without progress on any socket

# One tunnel end in a process of its own, so that its memory is the tunnel's. Settings come on stdin; it runs until that
# closes.
TUNNEL_END = """
import asyncio, json, sys
from mcbn_protocol.secret import Secret
from mcbn_workload.channels.registry import ChannelRegistry
from mcbn_workload.channels.tls_psk import TlsPskClient, TlsPskServer
from mcbn_workload.tunnel.addresses import parse_plain_address
from mcbn_workload.tunnel.ends import connect_tunnel, serve_tunnel

def end(settings):
    key = Secret(bytes.fromhex(settings["key"]))
    identity, plain, owned = settings["identity"], parse_plain_address(settings["plain"]), {
        "guard": lambda _identity: None, "registry": ChannelRegistry()
    }
    if settings["role"] == "server":
        known = {identity.encode(): key}
        return serve_tunnel("127.0.0.1", 0, plain, TlsPskServer(known.get), **owned)
    return connect_tunnel(plain, ("127.0.0.1", settings["port"]), TlsPskClient(identity, key), **owned)

async def main(settings):
    async with end(settings) as tunnel:
        print(json.dumps(tunnel.addresses), flush=True)
        await asyncio.to_thread(sys.stdin.read)

settings = json.loads(sys.stdin.readline())
factory = None
if settings["loop"] == "uvloop":
    import uvloop
    factory = uvloop.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main(settings))
"""


@contextlib.contextmanager
def tunnel_end(**settings: Any) -> Iterator[tuple[int, psutil.Process]]:
    """Start an end; give the port that it listens on, and its process."""
    command = [sys.executable, "-c", TUNNEL_END]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps({"identity": IDENTITY, "key": KEY.hex(), **settings}) + "\n")
            process.stdin.flush()
            address = json.loads(process.stdout.readline())[0]
            port = address[1] if isinstance(address, list) else int(address.rpartition(":")[2])
            yield port, psutil.Process(process.pid)
        finally:
            process.stdin.close()
            process.wait(SOCKET_SECONDS)
    assert process.returncode == 0


def send(sink: socket.socket) -> None:
    for _ in range(BLOCKS):
        sink.sendall(BLOCK)
    sink.shutdown(socket.SHUT_WR)


def receive(source: socket.socket, digest: Any, count: int) -> None:
    buffer = bytearray(1 << 18)
    while count:
        taken = source.recv_into(buffer, min(count, len(buffer)))
        assert taken, "the stream ended early"
        digest.update(memoryview(buffer)[:taken])
        count -= taken


@pytest.mark.parametrize(("direction", "loop"), [("upload", "asyncio"), ("download", "uvloop")])
def test_a_gigabyte_keeps_its_hash_and_memory_stays_flat(direction: str, loop: str) -> None:
    with contextlib.ExitStack() as stack:
        application = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        plain = f"127.0.0.1:{application.getsockname()[1]}"
        far_port, far = stack.enter_context(tunnel_end(role="server", loop=loop, plain=plain))
        near_port, near = stack.enter_context(tunnel_end(role="client", loop=loop, plain="127.0.0.1:0", port=far_port))
        outer = stack.enter_context(socket.create_connection(("127.0.0.1", near_port), SOCKET_SECONDS))
        application.settimeout(SOCKET_SECONDS)
        inner = stack.enter_context(application.accept()[0])
        inner.settimeout(SOCKET_SECONDS)
        source, sink = (inner, outer) if direction == "upload" else (outer, inner)

        sender = threading.Thread(target=send, args=(sink,))
        sender.start()
        got = hashlib.sha256()
        receive(source, got, WARM_BLOCKS * len(BLOCK))
        before = [end.memory_info().rss for end in (near, far)]
        receive(source, got, (BLOCKS - WARM_BLOCKS) * len(BLOCK))
        after = [end.memory_info().rss for end in (near, far)]
        assert source.recv(1) == b""
        sender.join()

        expected = hashlib.sha256()
        for _ in range(BLOCKS):
            expected.update(BLOCK)
        assert got.digest() == expected.digest()
        growth = [later - earlier for earlier, later in zip(before, after, strict=True)]
        assert max(growth) <= GROWTH_BYTES_MAX, f"resident memory grew by {growth} bytes"
