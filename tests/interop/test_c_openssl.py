"""Our TLS-PSK server against a small client in C on Debian's OpenSSL."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcbn_workload.channels.tls_psk import SUITES
from tests.interop.peers import IDENTITY, KEY, SCRIPTS, WRONG_KEY, our_server, program


@pytest.fixture(scope="module")
def c_client(require_tool: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the client with every warning as an error."""
    compiler = require_tool("cc", "gcc libssl-dev")
    built = tmp_path_factory.mktemp("c") / "openssl_client"
    source = SCRIPTS / "openssl_client.c"
    command = [compiler, "-Wall", "-Wextra", "-Werror", "-O1", str(source), "-o", str(built), "-lssl", "-lcrypto"]
    subprocess.run(command, check=True, timeout=60)
    return built


@pytest.mark.parametrize("suite", SUITES)
async def test_a_c_client_talks_to_our_server(c_client: Path, seen: Any, suite: str) -> None:
    async with our_server() as server:
        arguments = [str(server.addresses[0][1]), IDENTITY, KEY.hex(), "1.3", suite]
        async with program(c_client, *arguments) as client:
            client.say(b"a line from C\n")
            said = await client.rest()
            assert said == f"connected TLSv1.3 {suite} psk\na line from C\n".encode()
            assert await client.process.wait() == 0
    seen("C program on libssl", "TLS 1.3 PSK", suite, "server")


async def test_a_c_client_with_another_key_is_refused(c_client: Path) -> None:
    async with our_server() as server:
        arguments = [str(server.addresses[0][1]), IDENTITY, WRONG_KEY.hex(), "1.3", SUITES[0]]
        async with program(c_client, *arguments) as client:
            assert b"handshake failure" in await client.rest()
            assert await client.process.wait() == 1
