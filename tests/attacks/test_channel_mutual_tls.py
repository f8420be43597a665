"""Attacks on channels of mutual TLS: everybody who is not the other role of the same epoch, with any certificate."""

import asyncio
import dataclasses
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from mcbn_protocol.identifiers import Role
from mcbn_workload.channels import errors
from mcbn_workload.channels.certificates import Credentials, Validity, credentials, derived_authority
from mcbn_workload.channels.engine import Engine
from mcbn_workload.channels.listener import ChannelServer, serve_channels
from mcbn_workload.channels.mutual_tls import MutualTlsClient, MutualTlsKeys, MutualTlsServer
from mcbn_workload.channels.registry import ChannelRegistry, Limits
from mcbn_workload.channels.streams import Channel, open_channel

FAMILY = "Channel"

NOW = dt.datetime.now(dt.UTC)
VALIDITY = Validity(NOW, NOW + dt.timedelta(days=1))
YESTERDAY = Validity(NOW - dt.timedelta(days=2), NOW - dt.timedelta(days=1))


def key(text: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(text.encode().ljust(32, b"."))


SERVER, CLIENT, CA, MALLORY = key("server"), key("client"), key("ca"), key("mallory")


def shown(role: Role, leaf: Any, *, ca: Any = CA, validity: Validity = VALIDITY) -> Credentials:
    return credentials(role, leaf, derived_authority(ca, validity), names=["far-end.example"], validity=validity)


class Network:
    """A server that answers `served`, and whom it served."""

    def __init__(self) -> None:
        self.served: list[str | None] = []
        self.failures = ChannelRegistry()
        self.live = [MutualTlsKeys(shown(Role.SERVER, SERVER), CLIENT.public_key())]

    async def handler(self, channel: Channel) -> None:
        self.served.append(channel.identity)
        await channel.write(b"served")

    @asynccontextmanager
    async def listening(self, live: Sequence[MutualTlsKeys] | None = None) -> AsyncIterator[ChannelServer]:
        chosen = self.live if live is None else live
        factory = MutualTlsServer(lambda: chosen)
        async with serve_channels("127.0.0.1", 0, factory, self.handler, **arguments(self.failures)) as server:
            yield server


def arguments(registry: ChannelRegistry) -> dict[str, Any]:
    return {"guard": lambda _identity: None, "registry": registry, "limits": Limits(handshake_seconds=20)}


@pytest.fixture
def network() -> Network:
    return Network()


async def ask(server: ChannelServer, keys: MutualTlsKeys) -> bytes:
    host, port = server.addresses[0]
    async with await open_channel(host, port, MutualTlsClient(keys), **arguments(ChannelRegistry())) as channel:
        return await channel.read()


def client(credentials: Credentials, peer: Any = SERVER) -> MutualTlsKeys:
    return MutualTlsKeys(credentials, peer.public_key())


async def test_the_other_role_is_served(network: Network) -> None:
    """Nobody attacks: what the rest is compared with."""
    async with network.listening() as server:
        assert await ask(server, client(shown(Role.CLIENT, CLIENT))) == b"served"
    assert network.served == [network.live[0].peer]


async def test_mtls_peer_with_another_key(network: Network) -> None:
    """Mallory, who has the derived CA's key from an old image, signs a client certificate for a key of his own."""
    async with network.listening() as server:
        with pytest.raises(errors.PeerRefusedError):
            await ask(server, client(shown(Role.CLIENT, MALLORY)))
    assert network.served == []


async def test_mtls_peer_of_another_ca_with_another_key(network: Network) -> None:
    """Mallory runs a CA of the same name as ours and comes with its certificate."""
    async with network.listening() as server:
        with pytest.raises(errors.PeerRefusedError):
            await ask(server, client(shown(Role.CLIENT, MALLORY, ca=MALLORY)))
    assert network.served == []


def signed_by_nobody(credentials: Credentials) -> Credentials:
    """The same leaf with a signature that does not verify."""
    der = bytearray(credentials.leaf.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return dataclasses.replace(credentials, leaf=x509.load_der_x509_certificate(bytes(der)))


def refusal(stranger: Role, leaf: Any) -> Exception:
    """What the other role says of a leaf whose signature does not verify."""
    server, client_ = (
        signed_by_nobody(shown(role, leaf)) if role is stranger else shown(role, own)
        for role, own in ((Role.SERVER, SERVER), (Role.CLIENT, CLIENT))
    )
    live = [MutualTlsKeys(server, CLIENT.public_key())]
    ends = [MutualTlsClient(client(client_))(), MutualTlsServer(lambda: live)()]
    with pytest.raises(errors.ChannelError) as refused:
        shake(*ends) if stranger is Role.SERVER else shake(*reversed(ends))
    return refused.value


def shake(refusing: Engine, stranger: Engine) -> None:
    while not refusing.handshake():
        stranger.handshake()
        for source, sink in ((refusing, stranger), (stranger, refusing)):
            sink.feed(b"".join(source.outgoing()))


@pytest.mark.parametrize("stranger", Role)
def test_mtls_peer_whose_chain_is_costly_to_check(stranger: Role) -> None:
    """Somebody shows certificates again and again whose CAs' RSA keys make each signature take tens of milliseconds."""
    # A signature that does not verify shows whether it was looked at: not before the leaf's key is the right one.
    right = SERVER if stranger is Role.SERVER else CLIENT
    assert isinstance(refusal(stranger, MALLORY), errors.PeerKeyError)
    assert "signature failure" in str(refusal(stranger, right))


async def test_mtls_peer_of_another_ca_with_the_right_key(network: Network) -> None:
    """Nobody attacks: a client with the right key has another formal CA, which decides nothing for or against it."""
    async with network.listening() as server:
        assert await ask(server, client(shown(Role.CLIENT, CLIENT, ca=MALLORY))) == b"served"


async def test_mtls_peer_with_no_certificate(network: Network) -> None:
    """Somebody opens TLS 1.3 as any browser does, with no certificate, and hopes that it is not asked for one."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with network.listening() as server:
        host, port = server.addresses[0]
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
            await reader.read()
        writer.transport.abort()
    assert network.served == []


async def test_mtls_client_that_reflects_the_server(network: Network) -> None:
    """Mallory tricks a server's VM into connecting to itself: it shows the server's key where the client's must be.

    Known as: the Selfie attack (Drucker and Gueron, IACR ePrint 2019/347; RFC 9257).
    """
    async with network.listening() as server:
        with pytest.raises(errors.PeerRefusedError):
            await ask(server, client(shown(Role.CLIENT, SERVER)))
    assert network.served == []


async def test_mtls_server_that_is_a_client(network: Network) -> None:
    """Mallory lets a participant's client VM listen and play the server for the other clients of the network."""
    live = [MutualTlsKeys(shown(Role.SERVER, CLIENT), CLIENT.public_key())]
    async with network.listening(live) as server:
        with pytest.raises(errors.PeerKeyError, match="own key"):
            await ask(server, client(shown(Role.CLIENT, CLIENT)))
    assert network.served == []


async def test_mtls_server_with_another_key_of_the_same_ca(network: Network) -> None:
    """Frank puts a server of his own in the way, with a certificate of the derived CA for his own key."""
    live = [MutualTlsKeys(shown(Role.SERVER, MALLORY), CLIENT.public_key())]
    async with network.listening(live) as server:
        with pytest.raises(errors.PeerKeyError, match="was expected"):
            await ask(server, client(shown(Role.CLIENT, CLIENT)))
    assert network.served == []


async def test_mtls_peer_with_yesterdays_certificate(network: Network) -> None:
    """Somebody who kept a client's certificate of the right key shows it after its end."""
    async with network.listening() as server:
        with pytest.raises(errors.PeerRefusedError):
            await ask(server, client(shown(Role.CLIENT, CLIENT, validity=YESTERDAY)))
    assert network.served == []


async def test_mtls_peer_of_an_epoch_that_has_ended(network: Network) -> None:
    """Dave, who was removed, has a VM that still holds the keys of the epoch before, and names that epoch."""
    removed = client(shown(Role.CLIENT, key("old client")), key("old server"))
    async with network.listening() as server:
        with pytest.raises(errors.PeerKeyError):
            await ask(server, removed)
        insisting = client(shown(Role.CLIENT, key("old client")))  # it takes whatever server it meets
        with pytest.raises(errors.PeerRefusedError):
            await ask(server, insisting)
    assert network.served == []


async def test_mtls_peer_learns_nothing_from_the_refusal(network: Network) -> None:
    """Somebody compares the answers to a stranger's key, to the server's own, and to the right one out of its time."""
    said = set()
    async with network.listening() as server:
        for leaf, validity in ((MALLORY, VALIDITY), (SERVER, VALIDITY), (CLIENT, YESTERDAY)):
            with pytest.raises(errors.PeerRefusedError) as refused:
                await ask(server, client(shown(Role.CLIENT, leaf, validity=validity)))
            said.add(str(refused.value))
    assert len(said) == 1
