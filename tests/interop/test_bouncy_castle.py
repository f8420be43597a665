"""Our TLS-PSK engine against Bouncy Castle's TLS, which shares no code with OpenSSL, both ways."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import errors
from mcbn_workload.channels.streams import open_channel
from mcbn_workload.channels.tls_psk import PROTOCOL, TlsPskClient
from tests.interop.peers import IDENTITY, KEY, SCRIPTS, WRONG_KEY, our_server, owned, program, read_exactly

pytestmark = pytest.mark.timeout(180)  # starting and compiling Java

JARS = [Path("/usr/share/java") / name for name in ("bctls.jar", "bcprov.jar", "bcutil.jar")]


@pytest.fixture(scope="module")
def peer(require_tool: Callable[..., str]) -> list[str | Path]:
    java = require_tool("java", "default-jdk-headless")
    if not all(jar.exists() for jar in JARS):
        message = "Bouncy Castle is missing: install it (Debian: apt-get install libbctls-java)"
        if os.environ.get("MCBN_REQUIRE_PEERS"):
            pytest.fail(message)
        pytest.skip(message)
    require_tool("javac", "default-jdk-headless")
    return [java, "-cp", ":".join(map(str, JARS)), SCRIPTS / "BouncyCastlePeer.java"]


async def test_a_bouncy_castle_client_talks_to_our_server(peer: list[str | Path], seen: Any) -> None:
    suites: list[str] = []
    async with our_server(suites) as server:
        arguments = ["client", str(server.addresses[0][1]), IDENTITY, KEY.hex(), "1.3"]
        async with program(*peer, *arguments) as client:
            client.say(b"a line from Java\n")
            await client.until(b"connected\na line from Java\n")
            assert await client.process.wait() == 0
    (suite,) = suites
    seen("Bouncy Castle", "TLS 1.3 PSK", suite, "server")


async def test_a_bouncy_castle_client_with_another_key_is_refused(peer: list[str | Path]) -> None:
    async with our_server() as server:
        arguments = ["client", str(server.addresses[0][1]), IDENTITY, WRONG_KEY.hex(), "1.3"]
        async with program(*peer, *arguments) as client:
            await client.until(b"refused .*handshake_failure")


async def test_our_client_talks_to_a_bouncy_castle_server(peer: list[str | Path], seen: Any) -> None:
    async with program(*peer, "server", IDENTITY, KEY.hex(), "1.3") as server:
        port = int((await server.until(rb"listening (\d+)"))[1])
        channel = await open_channel("127.0.0.1", port, TlsPskClient(IDENTITY, Secret(KEY)), **owned())
        assert channel.negotiated.protocol == PROTOCOL
        await channel.write(b"to Java and back")
        assert await read_exactly(channel, 16) == b"to Java and back"
        seen("Bouncy Castle", "TLS 1.3 PSK", channel.negotiated.suite, "client")
        await channel.close()


async def test_our_client_refuses_a_bouncy_castle_server_with_another_key(peer: list[str | Path]) -> None:
    async with program(*peer, "server", IDENTITY, WRONG_KEY.hex(), "1.3") as server:
        port = int((await server.until(rb"listening (\d+)"))[1])
        with pytest.raises(errors.PeerRefusedError):
            await open_channel("127.0.0.1", port, TlsPskClient(IDENTITY, Secret(KEY)), **owned())
