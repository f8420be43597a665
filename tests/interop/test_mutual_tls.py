"""Our mutual TLS against `openssl` and `curl`, both ways, with keys derived as a network's are."""

import datetime as dt
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mcbn_protocol.identifiers import Role
from mcbn_protocol.rsa_schemes import RsaScheme
from mcbn_protocol.secret import Secret
from mcbn_workload.channels import errors
from mcbn_workload.channels.certificates import Credentials, PrivateKey, Validity, credentials, derived_authority
from mcbn_workload.channels.listener import ChannelServer, serve_channels
from mcbn_workload.channels.mutual_tls import MutualTlsClient, MutualTlsKeys, MutualTlsServer
from mcbn_workload.channels.streams import Channel, open_channel
from mcbn_workload.http import serve_asgi
from mcbn_workload.rsa_keys import derive_rsa_key
from tests.interop.peers import Peer, echo, owned, program

NAME = "far-end.example"
NOW = dt.datetime.now(dt.UTC)
VALIDITY = Validity(NOW, NOW + dt.timedelta(days=1))


class Epoch:
    """Both roles' keys and certificates of one leaf kind, and the files by which a foreign program plays a role."""

    def __init__(self, make: Callable[[int], PrivateKey], folder: Path) -> None:
        self.folder = folder
        self.keys = {Role.SERVER: make(1), Role.CLIENT: make(2)}
        self.authority = derived_authority(make(3), VALIDITY)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self.authority.certificate.public_bytes(Encoding.PEM))
        self.shown = {role: self.credentials(role, key) for role, key in self.keys.items()}
        self.strangers = {role: self.credentials(role, make(4)) for role in Role}

    def credentials(self, role: Role, key: PrivateKey) -> Credentials:
        return credentials(role, key, self.authority, names=[NAME], validity=VALIDITY)

    def ours(self, role: Role, shown: Credentials | None = None) -> MutualTlsKeys:
        (other,) = set(Role) - {role}
        return MutualTlsKeys(shown or self.shown[role], self.keys[other].public_key())

    def files(self, shown: Credentials) -> tuple[str, str]:
        """Write a leaf and its key; return both paths."""
        leaf, key = self.folder / f"{shown.leaf.serial_number}.pem", self.folder / f"{shown.leaf.serial_number}.key"
        leaf.write_bytes(shown.leaf.public_bytes(Encoding.PEM))
        key.write_bytes(shown.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return str(leaf), str(key)


def rsa(number: int) -> PrivateKey:
    return derive_rsa_key(RsaScheme.C2SP_DET_KEYGEN, Secret(bytes([number]) * 32), 2048)


def ed25519(number: int) -> PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


@pytest.fixture(scope="module", params=[rsa, ed25519], ids=["rsa", "ed25519"])
def epoch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Epoch:
    return Epoch(request.param, tmp_path_factory.mktemp("epoch"))


@pytest.fixture(scope="module")
def openssl(require_tool: Callable[..., str]) -> str:
    return require_tool("openssl")


@asynccontextmanager
async def serving(epoch: Epoch, handler: Callable[[Channel], Any] = echo) -> AsyncIterator[ChannelServer]:
    live = [epoch.ours(Role.SERVER)]
    async with serve_channels("127.0.0.1", 0, MutualTlsServer(lambda: live), handler, **owned()) as server:
        yield server


def s_client(openssl: str, epoch: Epoch, server: ChannelServer, shown: Credentials | None) -> list[str]:
    host, port = server.addresses[0]
    command = [openssl, "s_client", "-connect", f"{host}:{port}", "-tls1_3", "-servername", NAME]
    command += ["-CAfile", str(epoch.ca), "-verify_return_error", "-verify_hostname", NAME]
    if shown is not None:
        leaf, key = epoch.files(shown)
        command += ["-cert", leaf, "-key", key]
    return command


async def test_s_client_with_the_derived_key_talks_to_our_server(openssl: str, seen: Any, epoch: Epoch) -> None:
    """It checks our chain, our names and our purpose by its own rules."""
    async with serving(epoch) as server, program(*s_client(openssl, epoch, server, epoch.shown[Role.CLIENT])) as client:
        client.say(b"a line from openssl\n")
        await client.until(rb"\na line from openssl\n")
        said = await client.rest()
    assert b"Verify return code: 0 (ok)" in said
    assert b"No client certificate CA names sent" in said
    assert b"TLS_CHACHA20_POLY1305_SHA256" in said
    seen("openssl", "mutual TLS 1.3", "TLS_CHACHA20_POLY1305_SHA256", "server")


@pytest.mark.parametrize(
    ("whose", "alert"), [("stranger's", b"alert handshake failure"), ("none", b"alert certificate required")]
)
async def test_s_client_without_the_derived_key_is_refused(
    openssl: str, epoch: Epoch, whose: str, alert: bytes
) -> None:
    shown = epoch.strangers[Role.CLIENT] if whose != "none" else None
    async with serving(epoch) as server, program(*s_client(openssl, epoch, server, shown)) as client:
        client.say(b"not served\n")
        await client.until(alert)
        assert b"\nnot served" not in await client.rest()


async def test_s_client_with_the_servers_own_key_is_refused(openssl: str, epoch: Epoch) -> None:
    shown = epoch.credentials(Role.CLIENT, epoch.keys[Role.SERVER])
    async with serving(epoch) as server, program(*s_client(openssl, epoch, server, shown)) as client:
        await client.until(rb"alert handshake failure")


async def test_s_client_of_tls_1_2_is_refused(openssl: str, epoch: Epoch) -> None:
    async with serving(epoch) as server:
        command = s_client(openssl, epoch, server, epoch.shown[Role.CLIENT])
        async with program(*["-tls1_2" if word == "-tls1_3" else word for word in command]) as client:
            await client.until(rb"alert protocol version|alert handshake failure")


@asynccontextmanager
async def s_server(openssl: str, epoch: Epoch, shown: Credentials, *more: str) -> AsyncIterator[tuple[Peer, int]]:
    leaf, key = epoch.files(shown)
    command = [openssl, "s_server", "-accept", "127.0.0.1:0", "-cert", leaf, "-key", key, "-rev", *more]
    command += ["-CAfile", str(epoch.ca), "-Verify", "1", "-verify_return_error"]
    async with program(*command) as server:
        yield server, int((await server.until(rb"ACCEPT \S*:(\d+)"))[1])


async def test_our_client_talks_to_s_server_with_the_derived_key(openssl: str, seen: Any, epoch: Epoch) -> None:
    async with s_server(openssl, epoch, epoch.shown[Role.SERVER], "-tls1_3") as (_, port):
        factory = MutualTlsClient(epoch.ours(Role.CLIENT))
        async with await open_channel("127.0.0.1", port, factory, **owned()) as channel:
            assert channel.identity == epoch.ours(Role.SERVER).own
            await channel.write(b"abc\n")
            assert await channel.read() == b"cba\n"
            seen("openssl", "mutual TLS 1.3", channel.negotiated.suite, "client")


@pytest.mark.parametrize("version", ["-tls1_3", "-tls1_2"])
async def test_our_client_refuses_s_server_with_another_key_or_version(
    openssl: str, epoch: Epoch, version: str
) -> None:
    shown = epoch.strangers[Role.SERVER] if version == "-tls1_3" else epoch.shown[Role.SERVER]
    async with s_server(openssl, epoch, shown, version) as (_, port):
        with pytest.raises(errors.PeerKeyError if version == "-tls1_3" else errors.HandshakeError):
            await open_channel("127.0.0.1", port, MutualTlsClient(epoch.ours(Role.CLIENT)), **owned())


async def test_s_server_refuses_a_client_that_it_cannot_verify(openssl: str, epoch: Epoch, tmp_path: Path) -> None:
    """Our client learns of it with its first read, and says that it was refused."""
    stranger = Epoch(lambda number: ed25519(number + 10), tmp_path).shown[Role.CLIENT]
    async with s_server(openssl, epoch, epoch.shown[Role.SERVER], "-tls1_3") as (_, port):
        factory = MutualTlsClient(epoch.ours(Role.CLIENT, stranger))
        channel = await open_channel("127.0.0.1", port, factory, **owned())
        with pytest.raises(errors.PeerRefusedError, match="alert"):
            await channel.read()


async def application(scope: Any, receive: Any, send: Any) -> None:
    assert scope["method"] == "GET"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def curl(require_tool: Callable[..., str]) -> str:
    return require_tool("curl")


async def fetched(curl: str, epoch: Epoch, shown: Credentials | None) -> tuple[bytes, int, list[str]]:
    """Return what curl printed, its exit status, and the suites of the channels that opened."""
    suites = []
    serve = serve_asgi(application)

    async def handler(channel: Channel) -> None:
        suites.append(channel.negotiated.suite)
        await serve(channel)

    async with serving(epoch, handler) as server:
        host, port = server.addresses[0]
        command = [curl, "--silent", "--show-error", "--cacert", str(epoch.ca), "--noproxy", "*"]
        if shown is not None:
            leaf, key = epoch.files(shown)
            command += ["--cert", leaf, "--key", key]
        async with program(*command, "--resolve", f"{NAME}:{port}:{host}", f"https://{NAME}:{port}/") as client:
            said = await client.rest()
            return said, await client.process.wait(), suites


async def test_curl_with_the_derived_key_gets_ok(curl: str, seen: Any, epoch: Epoch) -> None:
    said, status, suites = await fetched(curl, epoch, epoch.shown[Role.CLIENT])
    assert (said, status) == (b"ok", 0)
    (suite,) = suites
    seen("curl", "mutual TLS 1.3", suite, "server")


@pytest.mark.parametrize("whose", ["stranger's", "none"])
async def test_curl_without_the_derived_key_gets_nothing(curl: str, epoch: Epoch, whose: str) -> None:
    said, status, _ = await fetched(curl, epoch, epoch.strangers[Role.CLIENT] if whose != "none" else None)
    assert re.search(rb"alert|reset|closed|SSL_read|OpenSSL", said)
    assert b"ok" not in said.split()
    assert status != 0
