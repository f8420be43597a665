"""Our TLS 1.3 PSK engine against the `openssl` program, both ways. The keys are throwaway: they stand on its argv."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import errors
from mcbn_workload.channels.listener import ChannelServer
from mcbn_workload.channels.streams import open_channel
from mcbn_workload.channels.tls_psk import SUITES, TlsPskClient
from tests.interop.peers import IDENTITY, KEY, our_server, owned


@pytest.fixture(scope="module")
def openssl(require_tool: Callable[..., str]) -> str:
    return require_tool("openssl")


@asynccontextmanager
async def process(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


def client_command(openssl: str, server: ChannelServer, *options: str, key: bytes = KEY) -> list[str]:
    host, port = server.addresses[0]
    psk = ["-psk", key.hex(), "-psk_identity", IDENTITY]
    return [openssl, "s_client", "-connect", f"{host}:{port}", *psk, *options]


async def talk(command: list[str], line: bytes) -> tuple[bytes, int]:
    """Say a line, wait for its echo (or the program's end), and return everything printed."""
    async with process(*command) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(line + b"\n")
        output = bytearray()
        while line not in output and (piece := await client.stdout.read(65536)):
            output += piece
        client.stdin.close()
        output += await client.stdout.read()
        return bytes(output), await client.wait()


@pytest.mark.parametrize("suite", SUITES)
async def test_s_client_talks_to_our_server(openssl: str, seen: Any, suite: str) -> None:
    async with our_server() as server:
        command = client_command(openssl, server, "-tls1_3", "-ciphersuites", suite)
        output, status = await talk(command, b"a line from openssl")
    assert b"a line from openssl" in output
    assert suite.encode() in output
    assert status == 0
    seen("openssl", "TLS 1.3 PSK", suite, "server")


@pytest.mark.parametrize(
    "options",
    [
        ["-tls1_2"],
        ["-tls1_1", "-cipher", "ALL:PSK:@SECLEVEL=0"],
        ["-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"],
        ["-tls1_3", "-curves", "secp521r1"],
    ],
    ids=["tls1.2", "tls1.1", "aes-256-gcm only", "no common group"],
)
async def test_s_client_is_refused_with_one_alert(openssl: str, options: list[str]) -> None:
    async with our_server() as server:
        output, status = await talk(client_command(openssl, server, *options), b"not served")
    assert b"alert handshake failure" in output
    assert b"not served" not in output
    assert status != 0


async def test_s_client_that_has_to_try_again_is_served(openssl: str) -> None:
    """Its first key share is for a group that we do not have: HelloRetryRequest (RFC 8446 section 4.1.4)."""
    async with our_server() as server:
        command = client_command(openssl, server, "-tls1_3", "-curves", "secp384r1:prime256v1")
        output, status = await talk(command, b"a second try")
    assert b"a second try" in output
    assert status == 0


@pytest.mark.parametrize("known", [True, False], ids=["wrong key", "unknown identity"])
async def test_s_client_that_tries_again_sees_the_same_alert(openssl: str, known: bool) -> None:
    async with our_server() as server:
        options = ["-tls1_3", "-curves", "secp384r1:prime256v1", *([] if known else ["-psk_identity", "mcbn1.other"])]
        command = client_command(openssl, server, *options, key=b"\xff" * 32)
        output, status = await talk(command, b"not served")
    assert b"alert handshake failure" in output
    assert status != 0


async def test_s_client_with_a_wrong_key_is_refused_with_the_same_alert(openssl: str) -> None:
    async with our_server() as server:
        output, status = await talk(client_command(openssl, server, "-tls1_3", key=b"\xff" * 32), b"not served")
    assert b"alert handshake failure" in output
    assert status != 0


async def test_a_session_of_ours_cannot_be_resumed(openssl: str, tmp_path: Path) -> None:
    """OpenSSL sends a ticket although tickets and the cache are off; it must open nothing."""
    session = str(tmp_path / "session.pem")
    async with our_server() as server:
        await talk(client_command(openssl, server, "-tls1_3", "-sess_out", session), b"first")
        assert await asyncio.to_thread(Path(session).read_bytes)
        host, port = server.addresses[0]
        resumed = [openssl, "s_client", "-connect", f"{host}:{port}", "-tls1_3", "-sess_in", session]
        output, status = await talk(resumed, b"not served")
    assert b"alert handshake failure" in output
    assert status != 0


async def ready_port(server: asyncio.subprocess.Process) -> int:
    assert server.stdout is not None
    while line := await server.stdout.readline():
        if found := re.search(rb"ACCEPT \S*:(\d+)", line):
            return int(found[1])
    pytest.fail("openssl s_server did not start")


@pytest.mark.parametrize("suite", SUITES)
async def test_our_client_talks_to_s_server(openssl: str, seen: Any, suite: str) -> None:
    options = ["-accept", "127.0.0.1:0", "-nocert", "-tls1_3", "-ciphersuites", suite, "-rev"]
    psk = ["-psk", KEY.hex(), "-psk_identity", IDENTITY]
    async with process(openssl, "s_server", *options, *psk) as server:
        port = await ready_port(server)
        channel = await open_channel("127.0.0.1", port, TlsPskClient(IDENTITY, Secret(KEY)), **owned())
        assert channel.negotiated.suite == suite
        await channel.write(b"abc\n")
        assert await channel.read() == b"cba\n"
        await channel.close()
    seen("openssl", "TLS 1.3 PSK", suite, "client")


async def test_our_client_refuses_s_server_with_another_key(openssl: str) -> None:
    options = ["-accept", "127.0.0.1:0", "-nocert", "-tls1_3", "-psk", "ff" * 32, "-psk_identity", IDENTITY]
    async with process(openssl, "s_server", *options) as server:
        port = await ready_port(server)
        with pytest.raises(errors.PeerRefusedError):
            await open_channel("127.0.0.1", port, TlsPskClient(IDENTITY, Secret(KEY)), **owned())


async def test_rogue_s_server_with_a_certificate_and_no_psk_is_refused(openssl: str, tmp_path: Path) -> None:
    key, leaf = str(tmp_path / "key.pem"), str(tmp_path / "leaf.pem")
    make = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subject = ["-subj", "/CN=far-end.example", "-days", "1", "-keyout", key, "-out", leaf]
    async with process(openssl, *make, *subject) as maker:
        assert await maker.wait() == 0
    options = ["-accept", "127.0.0.1:0", "-tls1_3", "-cert", leaf, "-key", key]
    async with process(openssl, "s_server", *options) as server:
        port = await ready_port(server)
        with pytest.raises(errors.PeerNotAuthenticatedError, match="certificate"):
            await open_channel("127.0.0.1", port, TlsPskClient(IDENTITY, Secret(KEY)), **owned())


async def test_s_server_that_dies_without_close_notify_is_a_truncation(openssl: str) -> None:
    options = ["-accept", "127.0.0.1:0", "-nocert", "-tls1_3", "-rev", "-psk", KEY.hex(), "-psk_identity", IDENTITY]
    async with process(openssl, "s_server", *options) as server:
        port = await ready_port(server)
        channel = await open_channel("127.0.0.1", port, TlsPskClient(IDENTITY, Secret(KEY)), **owned())
        await channel.write(b"abc\n")
        assert await channel.read() == b"cba\n"
        server.kill()
        with pytest.raises(errors.ChannelTruncatedError):
            await channel.read()
