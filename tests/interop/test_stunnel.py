"""Our client and server against stunnel, the tunnel that old installations have: a web page through both, both ways."""

import asyncio
import functools
import http.server
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import errors
from mcbn_workload.channels.listener import serve_channels
from mcbn_workload.channels.psk import Version
from mcbn_workload.channels.streams import Channel, open_channel
from mcbn_workload.channels.tls_psk import TLS12_PSK, TLS13_PSK, TlsPskClient, TlsPskServer
from tests.interop.peers import IDENTITY, KEY, WRONG_KEY, Peer, owned, program

CHANNELS = {"TLSv1.3": "TLS 1.3 PSK", "TLSv1.2": "TLS 1.2 PSK"}
versions = pytest.mark.parametrize("version", [TLS13_PSK, TLS12_PSK], ids=list(CHANNELS))
PAGE = b"<p>agreed by all</p>\n" * 5000


@pytest.fixture(scope="module")
def stunnel(require_tool: Callable[..., str]) -> str:
    return require_tool("stunnel4")


@pytest.fixture
def web_port(tmp_path: Path) -> Iterator[int]:
    """A web server with one page."""
    (tmp_path / "page.html").write_bytes(PAGE)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@asynccontextmanager
async def stunnel_with(stunnel: str, folder: Path, *lines: str, key: bytes = KEY) -> AsyncIterator[tuple[Peer, int]]:
    """Run stunnel with one service; give it and the port on which it listens."""
    keys, configuration = folder / "psk", folder / "stunnel.conf"
    keys.write_text(f"{IDENTITY}:{key.hex()}\n", encoding="ascii")
    keys.chmod(0o600)
    service = ["[peer]", "accept = 127.0.0.1:0", f"PSKsecrets = {keys}", "ciphers = PSK", *lines]
    common = ["foreground = yes", "pid =", "debug = info"]
    configuration.write_text("\n".join([*common, *service, ""]), encoding="ascii")
    async with program(stunnel, configuration) as peer:
        bound = await peer.until(rb"bound to 127\.0\.0\.1:(\d+)")
        yield peer, int(bound[1])


async def forward(channel: Channel, port: int) -> None:
    """The server's plaintext end: the web server behind it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(await channel.read())
    while data := await reader.read(65536):
        await channel.write(data)
    await channel.write_eof()
    writer.close()


@versions
async def test_a_web_page_through_our_client_and_a_stunnel_server(
    stunnel: str, seen: Any, tmp_path: Path, web_port: int, version: Version
) -> None:
    lines = [f"connect = 127.0.0.1:{web_port}", f"sslVersion = {version.protocol}"]
    async with stunnel_with(stunnel, tmp_path, *lines) as (_peer, port):
        factory = TlsPskClient(IDENTITY, Secret(KEY), version=version)
        channel = await open_channel("127.0.0.1", port, factory, **owned())
        assert channel.negotiated.protocol == version.protocol
        await channel.write(b"GET /page.html HTTP/1.0\r\n\r\n")
        answer = b""
        while data := await channel.read():
            answer += data
        await channel.close()
    assert answer.endswith(b"\r\n\r\n" + PAGE)
    seen("stunnel", CHANNELS[version.protocol], channel.negotiated.suite, "client")


@versions
async def test_a_web_page_through_a_stunnel_client_and_our_server(
    stunnel: str, seen: Any, tmp_path: Path, web_port: int, version: Version
) -> None:
    table = {IDENTITY.encode(): Secret(KEY)}
    suites = []

    async def handler(channel: Channel) -> None:
        suites.append(channel.negotiated.suite)
        await forward(channel, web_port)

    async with serve_channels("127.0.0.1", 0, TlsPskServer(table.get, version=version), handler, **owned()) as server:
        lines = ["client = yes", f"connect = 127.0.0.1:{server.addresses[0][1]}", f"sslVersion = {version.protocol}"]
        async with stunnel_with(stunnel, tmp_path, *lines) as (_peer, port), httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{port}/page.html", headers={"connection": "close"})
    assert answer.content == PAGE
    (suite,) = suites
    seen("stunnel", CHANNELS[version.protocol], suite, "server")


async def test_our_client_refuses_a_stunnel_server_with_another_key(
    stunnel: str, tmp_path: Path, web_port: int
) -> None:
    lines = [f"connect = 127.0.0.1:{web_port}", "sslVersion = TLSv1.3"]
    async with stunnel_with(stunnel, tmp_path, *lines, key=WRONG_KEY) as (_peer, port):
        with pytest.raises(errors.PeerRefusedError):
            await open_channel("127.0.0.1", port, TlsPskClient(IDENTITY, Secret(KEY)), **owned())


async def test_a_stunnel_client_with_another_key_is_refused(stunnel: str, tmp_path: Path, web_port: int) -> None:
    table = {IDENTITY.encode(): Secret(KEY)}
    handler = functools.partial(forward, port=web_port)
    async with serve_channels("127.0.0.1", 0, TlsPskServer(table.get), handler, **owned()) as server:
        lines = ["client = yes", f"connect = 127.0.0.1:{server.addresses[0][1]}", "sslVersion = TLSv1.3"]
        async with stunnel_with(stunnel, tmp_path, *lines, key=WRONG_KEY) as (peer, port):
            async with httpx.AsyncClient() as client:
                with pytest.raises(httpx.TransportError):
                    await client.get(f"http://127.0.0.1:{port}/page.html")
            await peer.until(b"alert handshake failure")
