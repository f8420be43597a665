"""Our TLS-PSK engine against GnuTLS's own client and server, both ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import errors
from mcbn_workload.channels.streams import open_channel
from mcbn_workload.channels.tls_psk import PROTOCOL, TlsPskClient
from tests.interop.peers import IDENTITY, KEY, WRONG_KEY, our_server, owned, program, read_exactly

PROTOCOL_NAME = "TLS 1.3 PSK"
TLS13 = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+ECDHE-PSK:+DHE-PSK"


@pytest.fixture(scope="module")
def gnutls_cli(require_tool: Callable[..., str]) -> str:
    return require_tool("gnutls-cli", "gnutls-bin")


@pytest.fixture(scope="module")
def gnutls_serv(require_tool: Callable[..., str]) -> str:
    return require_tool("gnutls-serv", "gnutls-bin")


def client_command(gnutls_cli: str, port: int, key: bytes) -> list[str]:
    psk = ["--pskusername", IDENTITY, "--pskkey", key.hex()]
    return [gnutls_cli, "--priority", TLS13, *psk, "-p", str(port), "127.0.0.1"]


async def test_gnutls_cli_talks_to_our_server(gnutls_cli: str, seen: Any) -> None:
    suites: list[str] = []
    async with (
        our_server(suites) as server,
        program(*client_command(gnutls_cli, server.addresses[0][1], KEY)) as client,
    ):
        await client.until(b"Handshake was completed")
        client.say(b"a line from gnutls\n")
        await client.until(b"a line from gnutls\n")
        said = await client.rest()
        assert b"(TLS1.3" in said
        assert f"PSK authentication. Connected as '{IDENTITY}'".encode() in said
    (suite,) = suites
    seen("GnuTLS", PROTOCOL_NAME, suite, "server")


async def test_gnutls_cli_with_another_key_is_refused(gnutls_cli: str) -> None:
    command = client_command(gnutls_cli, 0, WRONG_KEY)
    async with our_server() as server:
        command[command.index("0")] = str(server.addresses[0][1])
        async with program(*command) as client:
            await client.until(b"Handshake failed")


async def test_our_client_talks_to_gnutls_serv(gnutls_serv: str, seen: Any, tmp_path: Path) -> None:
    async with program(*server_command(gnutls_serv, tmp_path, KEY)) as server:
        await server.until(rb"IPv6.*done")
        channel = await open_channel(
            "127.0.0.1", server.listening_port(), TlsPskClient(IDENTITY, Secret(KEY)), **owned()
        )
        assert channel.negotiated.protocol == PROTOCOL
        await channel.write(b"to gnutls and back\n")
        assert await read_exactly(channel, 19) == b"to gnutls and back\n"
        seen("GnuTLS", PROTOCOL_NAME, channel.negotiated.suite, "client")
        await channel.close()


async def test_our_client_refuses_gnutls_serv_with_another_key(gnutls_serv: str, tmp_path: Path) -> None:
    async with program(*server_command(gnutls_serv, tmp_path, WRONG_KEY)) as server:
        await server.until(rb"IPv6.*done")
        with pytest.raises(errors.PeerRefusedError):
            await open_channel("127.0.0.1", server.listening_port(), TlsPskClient(IDENTITY, Secret(KEY)), **owned())


def server_command(gnutls_serv: str, folder: Path, key: bytes) -> list[str]:
    keys = folder / "psk"
    keys.write_text(f"{IDENTITY}:{key.hex()}\n", encoding="ascii")
    return [gnutls_serv, "--pskpasswd", str(keys), "--priority", TLS13, "-p", "0", "--echo"]
