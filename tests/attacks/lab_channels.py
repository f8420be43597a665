"""Servers of channels under a PSK, on either TLS library, over streams and datagrams, and clients that lie to them."""

import asyncio
import datetime as dt
import gc
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from mcbn_protocol.manifest import ChannelKind
from mcbn_protocol.secret import Secret
from mcbn_workload.channels import openssl
from mcbn_workload.channels.datagram_listener import DatagramServer, serve_datagram_channels
from mcbn_workload.channels.datagrams import DatagramChannel, open_datagram_channel
from mcbn_workload.channels.dtls_psk import DTLS12_PSK
from mcbn_workload.channels.listener import ChannelServer, serve_channels
from mcbn_workload.channels.psk import NO_TERMS, PskClient, Terms
from mcbn_workload.channels.registry import ChannelRegistry, Limits
from mcbn_workload.channels.streams import Channel, open_channel
from mcbn_workload.epoch_keys.engines import psk_engines
from mcbn_workload.kinds import EngineName

IDENTITY: Final = "mcbn1.AAECAwQFBgcICQoLDA0ODw"
KEY: Final = bytes(range(32))
HANDSHAKE_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Kind:
    """One kind of channel on one library."""

    channel: ChannelKind
    engine: EngineName

    @property
    def datagrams(self) -> bool:
        return self.channel is ChannelKind.DTLS12_PSK

    def client(self, identity: str = IDENTITY, key: bytes = KEY, terms: Terms = NO_TERMS) -> Any:
        return psk_engines(self.channel, self.engine).client(identity, Secret(key), terms)

    def server(self, table: dict[str, bytes] | None = None, terms: Terms = NO_TERMS) -> Any:
        known = {name.encode(): Secret(value) for name, value in (table or {IDENTITY: KEY}).items()}
        return psk_engines(self.channel, self.engine).server(known.get, lambda: terms)

    def __str__(self) -> str:
        return f"{self.channel.value} on {self.engine.value}"


TLS13: Final = Kind(ChannelKind.TLS13_PSK, EngineName.PYOPENSSL)
TLS12: Final = tuple(Kind(ChannelKind.TLS12_PSK, engine) for engine in EngineName)
STREAMS: Final = (TLS13, *TLS12)
DATAGRAMS: Final = tuple(Kind(ChannelKind.DTLS12_PSK, engine) for engine in EngineName)
ALL: Final = (*STREAMS, *DATAGRAMS)


def arguments(registry: ChannelRegistry | None = None) -> dict[str, Any]:
    limits = Limits(handshake_seconds=HANDSHAKE_SECONDS)
    return {"guard": lambda _identity: None, "registry": registry or ChannelRegistry(), "limits": limits}


class Served:
    """A server of either sort, and what it gave to whom."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.identities: list[str | None] = []
        self.arrived: list[bytes] = []
        self.server: ChannelServer | DatagramServer | None = None

    @property
    def address(self) -> tuple[str, int]:
        assert self.server is not None
        return self.server.addresses[0]

    @property
    def open_channels(self) -> int:
        assert self.server is not None
        return self.server.open_channels

    async def stream(self, channel: Channel) -> None:
        self.identities.append(channel.identity)
        await channel.write(b"served")
        while data := await channel.read():
            self.arrived.append(data)

    async def datagrams(self, channel: DatagramChannel) -> None:
        self.identities.append(channel.identity)
        while data := await channel.receive():
            self.arrived.append(data)
            channel.send(b"served")

    async def genuine(self) -> None:
        """The agreed client connects, and is served."""
        before = len(self.identities)
        assert await asks(self.kind, self.address) == b"served"
        assert self.identities[before:] == [IDENTITY]


@asynccontextmanager
async def serving(
    kind: Kind, *, terms: Terms = NO_TERMS, table: dict[str, bytes] | None = None
) -> AsyncIterator[Served]:
    served = Served(kind)
    if kind.datagrams:
        async with serve_datagram_channels(
            "127.0.0.1", 0, kind.server(table, terms), served.datagrams, **arguments()
        ) as server:
            served.server = server
            yield served
    else:
        async with serve_channels("127.0.0.1", 0, kind.server(table, terms), served.stream, **arguments()) as listener:
            served.server = listener
            yield served


async def asks(kind: Kind, address: Sequence[Any], **who: Any) -> bytes:
    """Connect with a client of the same kind, and return the first thing that it is given."""
    host, port = address[:2]
    if kind.datagrams:
        async with await open_datagram_channel(host, port, kind.client(**who), **arguments()) as channel:
            channel.send(b"hello")
            return await channel.receive()
    async with await open_channel(host, port, kind.client(**who), **arguments()) as stream:
        return await stream.read()


class ForeignDatagramClient:
    """OpenSSL itself, with the right identity and key, and one version and one suite that ours never offers."""

    def __init__(self, version: int, suite: str) -> None:
        self._genuine = PskClient(DTLS12_PSK, IDENTITY, Secret(KEY), NO_TERMS)
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_cipher_list(f"{suite}@SECLEVEL=0".encode())
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        self._callback = openssl.set_psk_client(context, self._genuine._offer)
        self._connection = SSL.Connection(context, None)
        self._connection.set_connect_state()

    def flight(self, answer: bytes = b"") -> bytes:
        """Take the server's answer, and return what comes next."""
        if answer:
            self._connection.bio_write(answer)
        with suppress(SSL.WantReadError):
            self._connection.do_handshake()
        return self._connection.bio_read(65536)


class DatagramPeer:
    """A bare socket towards a server of datagrams."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(address)

    def send(self, *datagrams: bytes | bytearray) -> None:
        for datagram in datagrams:
            self._socket.send(datagram)

    async def answer(self) -> bytes:
        """Return the next datagram; one that never comes fails the test."""
        async with asyncio.timeout(20):
            return await asyncio.get_running_loop().sock_recv(self._socket, 65536)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def spending_at_most(seconds: float) -> Iterator[None]:
    """Allow this process so much CPU time, which other processes do not use up, without what collects all garbage."""
    gc.collect()
    gc.disable()
    before = time.process_time()
    try:
        yield
        assert time.process_time() - before < seconds
    finally:
        gc.enable()


async def when(holds: Callable[[], object]) -> None:
    """Let the event loop turn until something holds; what never holds is ended by the test's timeout."""
    while not holds():  # noqa: ASYNC110  # the state of shipped objects, which carry no events for tests
        await asyncio.sleep(0.001)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate that anybody can make, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "far-end.example")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
    paths = folder / "rogue.pem", folder / "rogue.key"
    paths[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@asynccontextmanager
async def rogue_server(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """Speaks TLS 1.2 and 1.3 with a certificate, and has no PSK."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(folder))

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"served")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[:2]
