"""The original sample's own lines against our ends, under a manifest with its combination as the PSK of `Client1`."""

import re
import shlex
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mcbn_protocol.key_schedule import Scheme
from mcbn_protocol.manifest import ChannelKind
from mcbn_protocol.psk_terms import PskProfile, PskSuite
from mcbn_protocol.shares import Share, commitment
from mcbn_workload.app import main
from mcbn_workload.brokers.leases import Lease
from mcbn_workload.brokers.outcomes import Released
from mcbn_workload.brokers.quorum import Gathering
from mcbn_workload.channels import errors
from mcbn_workload.channels.datagram_listener import serve_datagram_channels
from mcbn_workload.channels.datagrams import open_datagram_channel
from mcbn_workload.channels.listener import serve_channels
from mcbn_workload.channels.registry import Limits
from mcbn_workload.channels.streams import Channel, open_channel
from mcbn_workload.epoch_keys.epoch import EpochKeys
from mcbn_workload.epoch_keys.openers import PskOpener
from mcbn_workload.http import serve_asgi
from tests.interop.old_peers import CCM8, GCM, echo_datagrams
from tests.interop.peers import SCRIPTS, Peer, owned, program, read_exactly
from tests.interop.sample_lines import LINES, OUR_CLIENT, OUR_SERVER, Line, insert, openssl_version, table
from tests.unit.workload.conftest import FakeNetwork

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "from-the-original-sample.md"
SHARES = {  # published by the sample
    "alice": "2c6f63f8c0f53a565db041b91c0a95add8913fc102670589db3982228dbfed90",
    "bob": "b15244faf36e5e4b178d3891701d245f2e45e881d913b6c35c0ea0ac14224cc2",
    "carol": "3e2078d5cd04beabfa4a7a1486bc626d679184df2e0a2b9942d913d4b835516c",
}
PSK = "6d1bbd1e6235c9d9ec8cdbdf9b32d4d08304a7f305f7c6c67775130d914f4dc4"
RSA_SHARES = {
    "alice": "b06394e28c33be5a8699759023972e9294d51b5007b3b0a51a41e9f58d406f8d",
    "bob": "2d362ce19a804d12b85644abf3a0e9bbfbb0e0ba3c5dd7cc4b8e335bc5154496",
}
SEED = "cb488e9105faa7e26cf30dcc6042fea07fd71c38953973c356d8ecf80421880e"
VARIABLES = {"PSK": PSK, "PSK_HEX": PSK.encode("ascii").hex()}
GET = b"GET / HTTP/1.0\n\n"


def opener_and_keys(kind: ChannelKind) -> tuple[PskOpener, EpochKeys]:
    """Let alice, bob and carol release the sample's shares under a signed manifest with the profile."""
    network = FakeNetwork(tuple(SHARES))
    shares = {name: Share(bytes.fromhex(text)) for name, text in SHARES.items()}
    agreed = network.agree(
        commitments={name: commitment(network.roster.network, name, 1, share) for name, share in shares.items()},
        channels=(kind,),
        scheme=Scheme.SHA256_CONCAT,
        insecure_scheme=True,
        overlap_seconds=0,
        insecure_psk_profile=PskProfile.MCBN_2023,
        insecure_psk_suites=(PskSuite(GCM), PskSuite(CCM8)) if kind is ChannelKind.DTLS12_PSK else (),
    )
    released = {
        name: Released(share, Lease(name, network.time.clock.boottime(), int(network.time.wall), 60), 1)
        for name, share in shares.items()
    }
    opener = PskOpener(kind)
    keys = EpochKeys(Gathering(agreed, (), released, len(shares)), network.time.clock, opener)
    assert keys.psk is not None
    assert (keys.identity, keys.psk.reveal().hex()) == ("Client1", PSK)
    return opener, keys


def kind_of(line: str) -> ChannelKind:
    return ChannelKind.DTLS12_PSK if "dtls" in line else ChannelKind.TLS13_PSK


def words(line: str, address: str) -> list[str]:
    """The line as a shell would run it, at another port: `address` in place of 8081 or HOST:8081."""
    filled = re.sub(r"\$(\w+)", lambda found: VARIABLES[found[1]], line)
    return [re.sub(r"^(\S+:)?8081$", address, word) for word in shlex.split(filled)]


async def application(scope: Any, receive: Any, send: Any) -> None:
    assert (scope["method"], scope["path"]) == ("GET", "/")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"ok\n"})


@asynccontextmanager
async def our_server(kind: ChannelKind) -> AsyncIterator[int]:
    """Our end as a server, whose page is `ok`, or which echoes datagrams; give its port."""
    opener, keys = opener_and_keys(kind)
    factory: Any = opener.server(lambda: [keys.channel] if keys.channel else [])
    if kind is ChannelKind.DTLS12_PSK:
        async with serve_datagram_channels("127.0.0.1", 0, factory, echo_datagrams, **owned()) as datagrams:
            yield datagrams.addresses[0][1]
        return
    async with serve_channels("127.0.0.1", 0, factory, serve_asgi(application), **owned()) as streams:
        yield streams.addresses[0][1]


async def our_client(port: int) -> Channel:
    _, keys = opener_and_keys(ChannelKind.TLS13_PSK)
    return await open_channel("127.0.0.1", port, keys.client_engine, **owned())


@pytest.fixture(scope="module", autouse=True)
def openssl(require_tool: Callable[..., str]) -> str:
    return require_tool("openssl")


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[Line], None]:
    """Say at a test's end that a line did what the page says of it."""
    return lambda line: record_property("sample_line", line.name)


each_for_our_server = pytest.mark.parametrize("line", OUR_SERVER, ids=lambda line: line.name)
each_for_our_client = pytest.mark.parametrize("line", OUR_CLIENT, ids=lambda line: line.name)


@each_for_our_server
async def test_a_clients_line_meets_our_server(line: Line, tell: Callable[[Line], None], tmp_path: Path) -> None:
    kind = kind_of(line.sample)
    async with our_server(kind) as port:
        run = partial(program, cwd=tmp_path)
        async with run(*words(line.sample, rf"127.0.0.1:{port}")) as client:
            await client.until(line.said.encode())
            if not line.instead:
                await ask(client, kind)
        if line.instead:
            async with run(*words(line.instead, rf"127.0.0.1:{port}")) as client:
                await ask(client, kind)
                await traced(client, line.instead)
    if "keylogfile" in line.sample:
        assert (tmp_path / "dtls_keylog.log").read_bytes().count(b"CLIENT_RANDOM") == 1
    tell(line)


async def ask(client: Peer, kind: ChannelKind) -> None:
    """Let it have the page, or a datagram back."""
    if kind is ChannelKind.DTLS12_PSK:
        await client.until(b"Cipher is PSK-AES128-CCM8")
        client.say(b"This is a UDP message\n")
        await client.until(b"\nThis is a UDP message\n")
    else:
        client.say(GET)
        await client.until(rb"HTTP/1\.1 200[\s\S]*\r\n\r\nok\n")


async def traced(peer: Peer, line: str) -> None:
    """`-trace` shows the PSK's extensions, and that a key exchange goes with it (psk_dhe_ke)."""
    if "-trace" in line:
        for shown in (rb"psk_dhe_ke", rb"extension_type=psk\(41\)", rb"extension_type=key_share\(51\)"):
            await peer.until(shown)


@each_for_our_client
async def test_our_client_meets_a_servers_line(line: Line, tell: Callable[[Line], None]) -> None:
    if kind_of(line.sample) is ChannelKind.DTLS12_PSK:
        await meet_a_datagram_server(line)
    else:
        await meet_a_stream_server(line)
    tell(line)


async def meet_a_stream_server(line: Line) -> None:
    async with program(*words(line.sample, "127.0.0.1:0")) as server:
        with pytest.raises(errors.PeerRefusedError):
            await our_client(int((await server.until(rb"ACCEPT \S*:(\d+)"))[1]))
        await server.until(line.said.encode())
    async with program(*words(line.instead, "127.0.0.1:0")) as server:
        channel = await our_client(int((await server.until(rb"ACCEPT \S*:(\d+)"))[1]))
        await channel.write(GET)
        assert (await read_exactly(channel, 12)).startswith(b"HTTP/1.0 200")
        await traced(server, line.instead)
        channel.abort(errors.ChannelClosedError("enough"))


async def meet_a_datagram_server(line: Line) -> None:
    _, keys = opener_and_keys(ChannelKind.DTLS12_PSK)
    factory: Any = keys.client_engine
    async with program(*words(line.sample, "127.0.0.1:0")) as server:
        await server.until(line.said.encode())
        impatient = owned() | {"limits": Limits(handshake_seconds=2)}
        with pytest.raises(errors.HandshakeTimeoutError, match="holds another key"):
            await open_datagram_channel("127.0.0.1", server.listening_port(), factory, **impatient)
    async with program(*words(line.instead, "127.0.0.1:0")) as server:
        await server.until(rb"ACCEPT")
        channel = await open_datagram_channel("127.0.0.1", server.listening_port(), factory, **owned())
        assert channel.negotiated.suite == CCM8
        channel.send(b"This is a UDP message\n")
        await server.until(b"This is a UDP message\n")
        channel.close()


async def test_the_samples_two_datagram_lines_do_not_meet_each_other(tmp_path: Path) -> None:
    """Its server has the 64 ASCII characters, its client the 32 bytes: the client says its Finished again and again."""
    run = partial(program, cwd=tmp_path)
    async with run(*words(OUR_CLIENT[-1].sample, "127.0.0.1:0")) as server:
        await server.until(rb"ACCEPT")
        address = f"127.0.0.1:{server.listening_port()}"
        async with run(*words(f"{OUR_SERVER[-1].sample} -msg", address)) as client:
            sent = (
                rb"16 fe fd 00 01 00 00 00 00 00 0%d 00 28"  # its Finished: RFC 6347 section 4.1, the first of epoch 1
            )
            await client.until(sent % 0 + rb"[\s\S]*" + sent % 1)
            assert b"Cipher is PSK" not in client.said


@pytest.fixture(scope="module")
def node(require_tool: Callable[..., str]) -> str:
    return require_tool("node", "nodejs")


async def test_nodes_defaults_and_client1_get_our_servers_page(node: str) -> None:
    async with (
        our_server(ChannelKind.TLS13_PSK) as port,
        program(node, SCRIPTS / "node_sample.js", "client", str(port), PSK) as client,
    ):
        await client.until(rb'received "HTTP/1\.1 200[\s\S]*ok\\n"')
        await client.until(rb"status 200 body ok\n")


async def test_our_client_gets_the_page_of_nodes_defaults_and_client1(node: str) -> None:
    async with program(node, SCRIPTS / "node_sample.js", "server", PSK) as server:
        channel = await our_client(int((await server.until(rb"listening (\d+)\n"))[1]))
        await channel.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while data := await channel.read():
            answer += data
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"ok\n" in answer
        await channel.close()


async def test_pions_client_and_server_of_the_sample(pion: Path) -> None:
    """PSK-AES128-GCM-SHA256 alone, `Client1`, extended master secret required."""
    async with (
        our_server(ChannelKind.DTLS12_PSK) as port,
        program(pion, "client", str(port), "Client1", PSK, GCM) as client,
    ):
        await client.until(b"connected\n")
        client.say(b"This is a UDP message\n")
        await client.until(b"echo This is a UDP message\n")
    _, keys = opener_and_keys(ChannelKind.DTLS12_PSK)
    async with program(pion, "server", "0", "Client1", PSK, GCM) as server:
        port = int((await server.until(rb"listening (\d+)\n"))[1])
        factory: Any = keys.client_engine
        channel = await open_datagram_channel("127.0.0.1", port, factory, **owned())
        channel.send(b"This is a UDP message")
        assert await channel.receive() == b"This is a UDP message"
        channel.close()


@pytest.fixture
def rsa_files(tmp_path: Path) -> list[str]:
    for name, text in RSA_SHARES.items():
        (tmp_path / name).write_text(text, encoding="ascii")
    return [str(tmp_path / name) for name in RSA_SHARES]


def test_certtools_line_makes_the_key_that_derive_shows(
    require_tool: Callable[..., str], rsa_files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certtool = require_tool("certtool", "gnutls-bin")
    line = f"--generate-privkey --outfile priv1.pem --key-type=rsa --sec-param=high --seed={SEED}"
    subprocess.run([certtool, *shlex.split(line)], cwd=tmp_path, capture_output=True, check=True, timeout=60)
    theirs = load_pem_private_key((tmp_path / "priv1.pem").read_bytes(), password=None)
    assert isinstance(theirs, RSAPrivateKey)
    assert main(["derive", "--rsa", "gnutls-provable", "--bits", "3072", *rsa_files]) == 0
    shown = theirs.public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode("ascii")
    assert shown in capsys.readouterr().out


def test_the_oldest_programs_output_is_what_derive_shows(
    rsa_files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`go run server/server.go --alice=... --bob=...`, with Go 1.19 to 1.23."""
    assert main(["derive", "--rsa", "go-sha512-reader", *rsa_files]) == 0
    shown = capsys.readouterr().out
    for published in (
        "y0iOkQX6p-Js8w3MYEL-oH_XHDiVOXPDVtjs-AQhiA4",
        "8csxK9BpuvU24JNkWkET_HdvyNO60ak4ygldsH4Hzew",
        "MIIBCgKCAQEA14gGro/kwHL7tqLhRvUb",
    ):
        assert published in shown


def test_the_page_has_the_lines_that_were_run() -> None:
    page, version = PAGE.read_text(encoding="utf-8"), openssl_version()
    assert len({line.name for line in LINES}) == len(LINES)
    if f"By {version}:" in page:
        assert insert(page, table(version)) == page
    else:
        assert insert(page, table(version)).count("| `openssl ") == len(LINES)
