"""DTLS 1.2 PSK, on both of our engines, against openssl, pion and each other."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcbn_workload.channels import errors
from mcbn_workload.kinds import EngineName
from tests.interop.old_peers import CCM8, CHACHA, ENGINES, GCM, SUITES, dtls_client, dtls_server, offered
from tests.interop.peers import IDENTITY, KEY, WRONG_KEY, program

both_engines = pytest.mark.parametrize("engine", ENGINES)
each_suite = pytest.mark.parametrize("suite", SUITES)
pion_suites = pytest.mark.parametrize("suite", [GCM, CCM8])
DTLS12 = "DTLS 1.2 PSK"


@pytest.fixture(scope="module")
def openssl(require_tool: Callable[..., str]) -> str:
    return require_tool("openssl")


def psk(key: bytes = KEY) -> list[str]:
    return ["-psk", key.hex(), "-psk_identity", IDENTITY]


@both_engines
@each_suite
async def test_s_client_talks_to_our_server(openssl: str, seen: Any, engine: EngineName, suite: str) -> None:
    async with dtls_server(engine, suite) as server:
        host, port = server.addresses[0]
        command = [openssl, "s_client", "-connect", f"{host}:{port}", "-dtls1_2", "-cipher", offered(suite), *psk()]
        async with program(*command) as client:
            await client.until(f"Cipher is {suite}".encode())
            client.say(b"a datagram from openssl\n")
            await client.until(b"a datagram from openssl\n")
            await client.rest()
    seen("openssl", DTLS12, suite, "server", engine)


@both_engines
@each_suite
async def test_our_client_talks_to_s_server(openssl: str, seen: Any, engine: EngineName, suite: str) -> None:
    options = ["-accept", "127.0.0.1:0", "-nocert", "-dtls1_2", "-listen", "-cipher", offered(suite), *psk()]
    async with program(openssl, "s_server", *options) as server:
        await server.until(rb"ACCEPT")
        channel = await dtls_client(engine, suite, server.listening_port())
        assert (channel.negotiated.protocol, channel.negotiated.suite) == ("DTLSv1.2", suite)
        channel.send(b"a datagram to openssl\n")
        await server.until(b"a datagram to openssl\n")
        server.say(b"and back\n")
        assert await channel.receive() == b"and back\n"
        channel.close()
    seen("openssl", DTLS12, suite, "client", engine)


@both_engines
async def test_our_client_gives_up_on_s_server_with_another_key(openssl: str, engine: EngineName) -> None:
    options = ["-accept", "127.0.0.1:0", "-nocert", "-dtls1_2", "-listen", "-cipher", CHACHA, *psk(WRONG_KEY)]
    async with program(openssl, "s_server", *options) as server:
        await server.until(rb"ACCEPT")
        with pytest.raises(errors.HandshakeTimeoutError):
            await dtls_client(engine, CHACHA, server.listening_port(), handshake_seconds=5)


@both_engines
@pion_suites
async def test_a_pion_client_talks_to_our_server(pion: Path, seen: Any, engine: EngineName, suite: str) -> None:
    async with dtls_server(engine, suite) as server:
        port = server.addresses[0][1]
        async with program(pion, "client", str(port), IDENTITY, KEY.hex(), suite) as client:
            await client.until(b"connected\n")
            client.say(b"a datagram from pion\n")
            await client.until(b"echo a datagram from pion\n")
            await client.rest()
    seen("pion", DTLS12, suite, "server", engine)


@both_engines
@pion_suites
async def test_our_client_talks_to_a_pion_server(pion: Path, seen: Any, engine: EngineName, suite: str) -> None:
    async with program(pion, "server", "0", IDENTITY, KEY.hex(), suite) as server:
        port = int((await server.until(rb"listening (\d+)\n"))[1])
        channel = await dtls_client(engine, suite, port)
        assert channel.negotiated.suite == suite
        channel.send(b"a datagram to pion")
        assert await channel.receive() == b"a datagram to pion"
        channel.close()
        await server.until(re.escape(b"accepted"))
    seen("pion", DTLS12, suite, "client", engine)


@both_engines
async def test_a_pion_client_with_another_key_is_not_served(pion: Path, engine: EngineName) -> None:
    async with dtls_server(engine, GCM) as server:
        port = server.addresses[0][1]
        async with program(pion, "client", str(port), IDENTITY, WRONG_KEY.hex(), GCM) as client:
            await client.until(b"refused ")


@pytest.mark.parametrize("ours", ENGINES)
@pytest.mark.parametrize("other", ENGINES)
async def test_each_engine_talks_to_the_other(seen: Any, ours: EngineName, other: EngineName) -> None:
    async with dtls_server(ours, CHACHA) as server:
        channel = await dtls_client(other, CHACHA, server.addresses[0][1])
        channel.send(b"between engines")
        assert await channel.receive() == b"between engines"
        assert channel.negotiated.suite == CHACHA
        channel.close()
    seen(f"{other.value} (ours)", DTLS12, CHACHA, "server", ours)
