"""Our TLS-PSK engine against Node.js's `tls` module, both ways."""

from collections.abc import Callable
from typing import Any

import pytest

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import errors
from mcbn_workload.channels.streams import open_channel
from mcbn_workload.channels.tls_psk import SUITES, TlsPskClient
from tests.interop.peers import IDENTITY, KEY, SCRIPTS, WRONG_KEY, our_server, owned, program, read_exactly


@pytest.fixture(scope="module")
def node(require_tool: Callable[..., str]) -> str:
    return require_tool("node", "nodejs")


@pytest.mark.parametrize("suite", SUITES)
async def test_a_node_client_talks_to_our_server(node: str, seen: Any, suite: str) -> None:
    async with our_server() as server:
        _host, port = server.addresses[0]
        arguments = [str(port), IDENTITY, KEY.hex(), "TLSv1.3", suite]
        async with program(node, SCRIPTS / "node_client.js", *arguments) as client:
            connected = await client.until(rb"connected (\S+) (\S+)\n")
            assert (connected[1], connected[2].decode()) == (b"TLSv1.3", suite)
            client.say(b"a line from node\n")
            await client.until(b"a line from node\n")
            assert (await client.rest()).endswith(b"ended\n")
            assert await client.process.wait() == 0
    seen("Node.js", "TLS 1.3 PSK", suite, "server")


async def test_a_node_client_with_another_key_is_refused(node: str) -> None:
    async with our_server() as server:
        _host, port = server.addresses[0]
        arguments = [str(port), IDENTITY, WRONG_KEY.hex(), "TLSv1.3", SUITES[0]]
        async with program(node, SCRIPTS / "node_client.js", *arguments) as client:
            await client.until(b"refused ")
            assert await client.process.wait() == 1


@pytest.mark.parametrize("suite", SUITES)
async def test_our_client_talks_to_a_node_server(node: str, seen: Any, suite: str) -> None:
    arguments = [IDENTITY, KEY.hex(), "TLSv1.3", suite]
    async with program(node, SCRIPTS / "node_server.js", *arguments) as server:
        port = int((await server.until(rb"listening (\d+)\n"))[1])
        channel = await open_channel("127.0.0.1", port, TlsPskClient(IDENTITY, Secret(KEY)), **owned())
        assert channel.negotiated.suite == suite
        await channel.write(b"to node and back")
        assert await read_exactly(channel, 16) == b"to node and back"
        await channel.close()
    seen("Node.js", "TLS 1.3 PSK", suite, "client")


async def test_our_client_refuses_a_node_server_with_another_key(node: str) -> None:
    arguments = [IDENTITY, WRONG_KEY.hex(), "TLSv1.3", SUITES[0]]
    async with program(node, SCRIPTS / "node_server.js", *arguments) as server:
        port = int((await server.until(rb"listening (\d+)\n"))[1])
        with pytest.raises(errors.PeerRefusedError):
            await open_channel("127.0.0.1", port, TlsPskClient(IDENTITY, Secret(KEY)), **owned())
