"""The other kinds of channel as a user has them: `mcbn-workload` over them, and the how-to's programs."""

import asyncio
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from mcbn_protocol.manifest import ChannelKind
from mcbn_protocol.psk_terms import PskSuite
from mcbn_workload import connect, connect_datagrams, listen, listen_datagrams
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.settings import Settings

PAGE = (Path(__file__).parents[4] / "docs/how-to/channels.md").read_text()
KINDS = [
    (ChannelKind.TLS13_PSK, "pyopenssl", "TLSv1.3"),
    (ChannelKind.TLS12_PSK, "pyopenssl", "TLSv1.2"),
    (ChannelKind.TLS12_PSK, "mbedtls", "TLSv1.2"),
    (ChannelKind.DTLS12_PSK, "pyopenssl", "DTLSv1.2"),
    (ChannelKind.DTLS12_PSK, "mbedtls", "DTLSv1.2"),
]
each = pytest.mark.parametrize(("channel", "engine", "protocol"), KINDS)


@pytest.fixture(autouse=True)
def agreed(network):
    network.agreed = network.open_epoch(1, channels=tuple(ChannelKind)[:3])


class Shouting(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if self.transport.get_extra_info("peername"):
            self.answers.put_nowait(data)
        else:
            self.transport.sendto(data.upper(), addr)


async def shout_tcp(reader, writer):
    while data := await reader.read(100):
        writer.write(data.upper())
    writer.close()


async def application(channel):
    """Something that answers in capitals; returns its address and how to end it."""
    if channel is ChannelKind.DTLS12_PSK:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Shouting, local_addr=("127.0.0.1", 0))
        return f"127.0.0.1:{transport.get_extra_info('sockname')[1]}", transport.close
    server = await asyncio.start_server(shout_tcp, "127.0.0.1", 0)
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}", server.close


async def ask(channel, address):
    host, port = address.split(":")
    if channel is ChannelKind.DTLS12_PSK:
        loop = asyncio.get_running_loop()
        transport, peer = await loop.create_datagram_endpoint(Shouting, remote_addr=(host, int(port)))
        transport.sendto(b"hello")
        answer = await peer.answers.get()
        transport.close()
        return answer
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"hello")
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


@each
async def test_the_tunnel(machine, channel, engine, protocol):
    forward, end = await application(channel)
    words = {"channel": channel.value, "engine": engine}
    server = await machine.start(
        "server", "--config", machine.configuration("server", forward=forward, **words), MCBN_LISTEN="127.0.0.1:0"
    )
    far_end = (await server.event("ready"))["address"]
    configuration = machine.configuration("client", listen="127.0.0.1:0", **words)
    client = await machine.start("client", "--config", configuration, MCBN_CONNECT=far_end)
    assert await ask(channel, (await client.event("ready"))["address"]) == b"HELLO"
    for one in (client, server):
        said = await one.event("channel_open")
        assert (said["protocol"], said["epoch"]) == (protocol, 1)
        one.process.send_signal(signal.SIGTERM)
    for one in (client, server):
        assert await one.end() == 0
        assert [event["sent"] + event["received"] for event in one.events if event["event"] == "channel_ended"] == [10]
    end()


def programs(marker):
    (code,) = [one for one in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if marker in one]
    namespace: dict[str, Any] = {}
    exec(compile(code, marker, "exec"), namespace)  # noqa: S102  # our own page
    return namespace["greet"], namespace["answer"]


@each
async def test_the_programs_of_the_page(machine, capsys, channel, engine, protocol):
    datagrams = channel is ChannelKind.DTLS12_PSK
    greet, answer = programs("connect_datagrams" if datagrams else "import Channel,")
    words = {"channel": channel.value, "engine": engine}

    def settings(role, **variables):
        return Settings.load(machine.configuration(role, **words), machine.environment(**variables))

    server = (listen_datagrams if datagrams else listen)(answer, settings("server", MCBN_LISTEN="127.0.0.1:0"))
    async with server as listener:
        host, port = listener.addresses[0]
        await greet(settings("client", MCBN_CONNECT=f"{host}:{port}"))
    assert "b'hello'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("channel", "calls", "use"),
    [
        ("tls13-psk", (connect_datagrams, listen_datagrams), "use connect and listen"),
        ("dtls12-psk", (connect, listen), "use connect_datagrams and listen_datagrams"),
    ],
)
async def test_the_wrong_calls_say_which_to_use(machine, channel, calls, use):
    settings = Settings.load(machine.configuration("client", channel=channel), machine.environment())
    opening, listening = calls
    for context in (opening(settings), listening(None, settings)):
        with pytest.raises(ConfigurationError, match=use):
            async with context:
                pass


async def test_a_suite_without_forward_secrecy_is_a_term_of_the_manifest(machine, network):
    """Both ends would rather have the other one, and take this one only from a peer that has no better."""
    network.agreed = network.open_epoch(
        1, channels=(ChannelKind.TLS12_PSK,), insecure_psk_suites=(PskSuite.AES128_GCM,)
    )
    settings = Settings.load(
        machine.configuration("server", channel="tls12-psk"), machine.environment(MCBN_LISTEN="127.0.0.1:0")
    )

    async def nothing(_channel):
        return

    async with listen(nothing, settings) as listener:
        host, port = listener.addresses[0]
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", f"{host}:{port}", "-tls1_2", "-cipher", "PSK-AES128-GCM-SHA256"),
            *("-psk_identity", "x", "-psk", "00" * 32),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _out, err = await process.communicate()
    assert b"handshake failure" in err  # after the suite was agreed: the identity is unknown
    assert b"no ciphers" not in err
