"""TLS 1.2 PSK, on both of our engines, against openssl, Node.js and GnuTLS, both ways, and against each other."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcbn_workload.channels import errors
from mcbn_workload.kinds import EngineName
from tests.interop.old_peers import CCM8, CHACHA, ENGINES, GCM, IANA, SUITES, offered, tls_client, tls_server
from tests.interop.peers import IDENTITY, KEY, SCRIPTS, WRONG_KEY, program, read_exactly

both_engines = pytest.mark.parametrize("engine", ENGINES)
each_suite = pytest.mark.parametrize("suite", SUITES)
LINE = b"a line there and back\n"
TLS12 = "TLS 1.2 PSK"


@pytest.fixture(scope="module")
def openssl(require_tool: Callable[..., str]) -> str:
    return require_tool("openssl")


@pytest.fixture(scope="module")
def node(require_tool: Callable[..., str]) -> str:
    return require_tool("node", "nodejs")


@pytest.fixture(scope="module")
def gnutls_serv(require_tool: Callable[..., str]) -> str:
    return require_tool("gnutls-serv", "gnutls-bin")


@pytest.fixture(scope="module")
def gnutls_cli(require_tool: Callable[..., str]) -> str:
    return require_tool("gnutls-cli", "gnutls-bin")


def psk(key: bytes = KEY) -> list[str]:
    return ["-psk", key.hex(), "-psk_identity", IDENTITY]


@both_engines
@each_suite
async def test_s_client_talks_to_our_server(openssl: str, seen: Any, engine: EngineName, suite: str) -> None:
    async with tls_server(engine, suite) as server:
        host, port = server.addresses[0]
        command = [openssl, "s_client", "-connect", f"{host}:{port}", "-tls1_2", "-cipher", offered(suite), *psk()]
        async with program(*command) as client:
            client.say(LINE)
            await client.until(re.escape(LINE))
            said = await client.rest()
    assert f"Cipher is {suite}".encode() in said
    seen("openssl", TLS12, suite, "server", engine)


@both_engines
@each_suite
async def test_our_client_talks_to_s_server(openssl: str, seen: Any, engine: EngineName, suite: str) -> None:
    options = ["-accept", "127.0.0.1:0", "-nocert", "-tls1_2", "-cipher", offered(suite), "-rev", *psk()]
    async with program(openssl, "s_server", *options) as server:
        port = int((await server.until(rb"ACCEPT \S*:(\d+)"))[1])
        channel = await tls_client(engine, suite, port)
        assert (channel.negotiated.protocol, channel.negotiated.suite) == ("TLSv1.2", suite)
        await channel.write(b"abc\n")
        assert await channel.read() == b"cba\n"
        await channel.close()
    seen("openssl", TLS12, suite, "client", engine)


@both_engines
async def test_s_client_with_another_key_is_refused(openssl: str, engine: EngineName) -> None:
    async with tls_server(engine, CHACHA) as server:
        host, port = server.addresses[0]
        command = [openssl, "s_client", "-connect", f"{host}:{port}", "-tls1_2", "-cipher", CHACHA, *psk(WRONG_KEY)]
        async with program(*command) as client:
            await client.until(b"alert handshake failure")


@both_engines
async def test_a_stock_client_gets_no_suite_that_nobody_agreed_to(openssl: str, engine: EngineName) -> None:
    async with tls_server(engine, CHACHA) as server:
        host, port = server.addresses[0]
        suites = f"{GCM}:{CCM8}:PSK-AES128-CBC-SHA256@SECLEVEL=0"
        command = [openssl, "s_client", "-connect", f"{host}:{port}", "-tls1_2", "-cipher", suites, *psk()]
        async with program(*command) as client:
            await client.until(b"alert handshake failure")


@both_engines
@pytest.mark.parametrize("suite", [CHACHA, GCM])
async def test_a_node_client_talks_to_our_server(node: str, seen: Any, engine: EngineName, suite: str) -> None:
    async with tls_server(engine, suite) as server:
        arguments = [str(server.addresses[0][1]), IDENTITY, KEY.hex(), "TLSv1.2", suite]
        async with program(node, SCRIPTS / "node_client.js", *arguments) as client:
            connected = await client.until(rb"connected (\S+) (\S+)\n")
            assert (connected[1], connected[2].decode()) == (b"TLSv1.2", IANA[suite])
            client.say(LINE)
            await client.until(re.escape(LINE))
            await client.rest()
    seen("Node.js", TLS12, suite, "server", engine)


@both_engines
@pytest.mark.parametrize("suite", [CHACHA, GCM])
async def test_our_client_talks_to_a_node_server(node: str, seen: Any, engine: EngineName, suite: str) -> None:
    async with program(node, SCRIPTS / "node_server.js", IDENTITY, KEY.hex(), "TLSv1.2", suite) as server:
        port = int((await server.until(rb"listening (\d+)\n"))[1])
        channel = await tls_client(engine, suite, port)
        assert channel.negotiated.suite == suite
        await channel.write(LINE)
        assert await read_exactly(channel, len(LINE)) == LINE
        await channel.close()
        await server.until(rb"accepted TLSv1.2 " + IANA[suite].encode())
    seen("Node.js", TLS12, suite, "client", engine)


@both_engines
async def test_our_client_refuses_a_node_server_with_another_key(node: str, engine: EngineName) -> None:
    async with program(node, SCRIPTS / "node_server.js", IDENTITY, WRONG_KEY.hex(), "TLSv1.2", CHACHA) as server:
        port = int((await server.until(rb"listening (\d+)\n"))[1])
        with pytest.raises(errors.HandshakeError):
            await tls_client(engine, CHACHA, port)


GNUTLS = {GCM: "+PSK:+AES-128-GCM:+AEAD", CCM8: "+PSK:+AES-128-CCM-8:+AEAD"}


def priority(suite: str) -> str:
    return f"NONE:+VERS-TLS1.2:+COMP-NULL:+SIGN-ALL:+GROUP-ALL:{GNUTLS[suite]}"


@both_engines
@pytest.mark.parametrize("suite", [GCM, CCM8])
async def test_gnutls_cli_talks_to_our_server(gnutls_cli: str, seen: Any, engine: EngineName, suite: str) -> None:
    """Without ECDHE-PSK, on which gnutls-cli 3.7 crashes against any server."""
    async with tls_server(engine, suite) as server:
        command = [gnutls_cli, "--priority", priority(suite), "--pskusername", IDENTITY, "--pskkey", KEY.hex()]
        async with program(*command, "-p", str(server.addresses[0][1]), "127.0.0.1") as client:
            await client.until(b"Handshake was completed")
            client.say(LINE)
            await client.until(re.escape(LINE))
            assert b"(TLS1.2" in await client.rest()
    seen("GnuTLS", TLS12, suite, "server", engine)


@both_engines
@pytest.mark.parametrize("suite", [GCM, CCM8])
async def test_our_client_talks_to_gnutls_serv(
    gnutls_serv: str, seen: Any, tmp_path: Path, engine: EngineName, suite: str
) -> None:
    keys = tmp_path / "psk"
    keys.write_text(f"{IDENTITY}:{KEY.hex()}\n", encoding="ascii")
    command = [gnutls_serv, "--pskpasswd", str(keys), "--priority", priority(suite), "-p", "0", "--echo"]
    async with program(*command) as server:
        await server.until(rb"IPv6.*done")
        channel = await tls_client(engine, suite, server.listening_port())
        assert channel.negotiated.suite == suite
        await channel.write(LINE)
        assert await read_exactly(channel, len(LINE)) == LINE
        await channel.close()
    seen("GnuTLS", TLS12, suite, "client", engine)


@pytest.mark.parametrize("ours", ENGINES)
@pytest.mark.parametrize("other", ENGINES)
async def test_each_engine_talks_to_the_other(seen: Any, ours: EngineName, other: EngineName) -> None:
    async with tls_server(ours, CHACHA) as server:
        channel = await tls_client(other, CHACHA, server.addresses[0][1])
        await channel.write(LINE)
        assert await read_exactly(channel, len(LINE)) == LINE
        assert (channel.negotiated.protocol, channel.negotiated.suite) == ("TLSv1.2", CHACHA)
        await channel.close()
    seen(f"{other.value} (ours)", TLS12, CHACHA, "server", ours)
