"""Attacks on channels under a PSK, over both TLS libraries: who does not hold this epoch's key gets no byte."""

import asyncio
import contextlib
import socket
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from OpenSSL import SSL

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import errors, openssl
from mcbn_workload.channels.datagrams import open_datagram_channel
from mcbn_workload.channels.dtls_psk import COOKIE_SECONDS, DTLS12, DtlsPskClient, DtlsPskServer
from mcbn_workload.channels.openssl import RECORD_HEADER
from mcbn_workload.channels.psk import IDENTITIES_MAX
from mcbn_workload.channels.streams import open_channel
from mcbn_workload.channels.tls_psk import TlsPskServer
from mcbn_workload.kinds import EngineName
from tests.attacks.lab_channels import (
    ALL,
    DATAGRAMS,
    IDENTITY,
    KEY,
    STREAMS,
    TLS12,
    TLS13,
    DatagramPeer,
    ForeignDatagramClient,
    Kind,
    arguments,
    asks,
    rogue_server,
    serving,
    spending_at_most,
    when,
)

FAMILY = "Channel"

CONNECTION_CPU_SECONDS = 0.01  # of both ends, for a connection that comes to nothing
SILENCE_CPU_SECONDS = 0.2  # of both ends, for 50 peers that say nothing until the handshake's deadline
DTLS10 = 0xFEFF  # RFC 4347
ALERT, HANDSHAKE = b"\x15", b"\x16"  # types of records
SERVER_HELLO, HELLO_VERIFY_REQUEST = 2, 3

each = pytest.mark.parametrize("kind", ALL, ids=str)
each_stream = pytest.mark.parametrize("kind", STREAMS, ids=str)
each_datagram = pytest.mark.parametrize("kind", DATAGRAMS, ids=str)


@each_stream
async def test_rogue_server_with_a_certificate(kind: Kind, tmp_path):
    """Frank leads the client to a server of his own, which shows a certificate and ignores the PSK."""
    async with rogue_server(tmp_path) as (host, port):
        with pytest.raises(errors.HandshakeError):
            await open_channel(host, port, kind.client(), **arguments())


@each
async def test_wrong_psk(kind: Kind):
    """Somebody knows the PSK identity, which is public, and guesses the key."""
    async with serving(kind) as served:
        with pytest.raises(errors.HandshakeError):
            await asks(kind, served.address, key=b"\xff" * 32)
        await when(lambda: not served.open_channels)
        assert served.identities == []
        await served.genuine()


@each
@pytest.mark.parametrize("identity", [IDENTITY[:-1], IDENTITY + "A", IDENTITY.lower(), "Client1", "x" * 128])
async def test_wrong_identity(kind: Kind, identity: str):
    """Somebody offers the right key under another name, to be taken for another epoch's client."""
    async with serving(kind) as served:
        with pytest.raises(errors.HandshakeError):
            await asks(kind, served.address, identity=identity)
        await when(lambda: not served.open_channels)
        assert served.identities == []


@each
async def test_key_of_another_epoch_under_its_name(kind: Kind):
    """Dave, whose share was in the last epoch's key, offers it under the name of the new epoch's."""
    new = "mcbn1.EAECAwQFBgcICQoLDA0ODw"
    async with serving(kind, table={new: b"n" * 32}) as served:
        for identity, key in ((new, KEY), (IDENTITY, KEY), (IDENTITY, b"n" * 32)):
            with pytest.raises(errors.HandshakeError):
                await asks(kind, served.address, identity=identity, key=key)
        await when(lambda: not served.open_channels)
        assert served.identities == []


@each_stream
async def test_connect_and_close(kind: Kind):
    """Somebody opens 300 connections and closes them, half of them in the middle of a hello, to exhaust the server."""
    engine = kind.client()()
    engine.handshake()
    whole = b"".join(engine.outgoing())
    half = whole[: len(whole) // 2]
    async with serving(kind) as served:
        with spending_at_most(300 * CONNECTION_CPU_SECONDS):
            for number in range(300):
                _reader, writer = await asyncio.open_connection(*served.address)
                if number % 2:
                    writer.write(half)
                writer.close()
                await writer.wait_closed()
            await when(lambda: not served.open_channels)
        await served.genuine()


@each_stream
async def test_silent_peer(kind: Kind):
    """Somebody opens connections and says nothing, to hold the server's memory and processor."""
    async with serving(kind) as served:
        silent = [await asyncio.open_connection(*served.address) for _ in range(50)]
        await when(lambda: served.open_channels == 50)
        with spending_at_most(SILENCE_CPU_SECONDS):
            for reader, writer in silent:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
        assert served.open_channels == 0
        await served.genuine()


@pytest.mark.parametrize("kind", TLS12, ids=str)
@pytest.mark.parametrize("version", [SSL.TLS1_VERSION, SSL.TLS1_1_VERSION, SSL.TLS1_3_VERSION])
async def test_other_protocol_versions(kind: Kind, version: int):
    """Frank, who is on the way, wants the two ends to settle on an older protocol than the one agreed."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(b"ALL:PSK:@SECLEVEL=0")
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    await _refused_hello(kind, context)


@pytest.mark.parametrize("kind", TLS12, ids=str)
@pytest.mark.parametrize(
    "suite",
    ["PSK-AES128-CBC-SHA256", "PSK-AES128-GCM-SHA256", "PSK-AES128-CCM8", "DHE-PSK-AES128-GCM-SHA256", "AES128-SHA"],
)
async def test_suites_that_nobody_agreed_to(kind: Kind, suite: str):
    """Somebody offers only CBC, or suites without forward secrecy, to read the traffic once the shares are known."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(suite.encode() + b"@SECLEVEL=0")
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    await _refused_hello(kind, context)


async def _refused_hello(kind: Kind, context: SSL.Context) -> None:
    keep = openssl.set_psk_client(context, lambda *_unused: 0)  # else OpenSSL offers no suite with a PSK
    client = SSL.Connection(context, None)
    client.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        client.do_handshake()
    async with serving(kind) as served:
        reader, writer = await asyncio.open_connection(*served.address)
        writer.write(client.bio_read(65536))
        answer = await reader.read()
        assert answer[:1] == b"\x15"  # an alert, and nothing else
        assert answer[-1:] == b"\x28"  # handshake_failure
        writer.close()
        await served.genuine()
    del keep


@pytest.mark.parametrize("suite", ["PSK-AES128-CBC-SHA", "ECDHE-PSK-AES128-CBC-SHA"])
@each_datagram
async def test_older_datagram_protocol(kind: Kind, suite: str):
    """Somebody who holds the right key offers DTLS 1.0 alone, which has only CBC and SHA-1."""
    client = ForeignDatagramClient(DTLS10, suite)
    if kind.engine is EngineName.PYOPENSSL:
        await _refused_datagram_hello(kind, client)
    else:
        await _ignored_datagram_hello(kind, client)


@each_datagram
@pytest.mark.parametrize(
    "suite",
    [
        *("ECDHE-PSK-AES128-CBC-SHA256", "ECDHE-PSK-AES128-CBC-SHA", "PSK-AES128-CBC-SHA256", "PSK-AES128-CBC-SHA"),
        *("PSK-AES128-GCM-SHA256", "PSK-AES128-CCM8", "DHE-PSK-AES128-GCM-SHA256", "AES128-SHA"),
    ],
)
async def test_datagram_suites_that_nobody_agreed_to(kind: Kind, suite: str):
    """Somebody who holds the right key offers only CBC, or no forward secrecy, over datagrams."""
    await _refused_datagram_hello(kind, ForeignDatagramClient(DTLS12, suite))


async def _refused_datagram_hello(kind: Kind, client: ForeignDatagramClient) -> None:
    """The server answers with an alert, at the latest when it knows that the address is the client's."""
    async with serving(kind) as served:
        stranger = DatagramPeer(served.address)
        stranger.send(client.flight())
        answer = await stranger.answer()
        if answer[:1] == HANDSHAKE:
            assert answer[RECORD_HEADER] == HELLO_VERIFY_REQUEST
            stranger.send(client.flight(answer))
            answer = await stranger.answer()
        assert answer[:1] == ALERT
        assert answer[-1:] == b"\x28"  # handshake_failure
        stranger.close()
        await when(lambda: not served.open_channels)
        assert served.identities == []
        await served.genuine()


async def _ignored_datagram_hello(kind: Kind, client: ForeignDatagramClient) -> None:
    """The server says nothing: the first answer is the one to the next hello, whose number it repeats."""
    engine = kind.client()()
    engine.handshake()
    genuine = bytes(engine.outgoing()[0])
    number = (7).to_bytes(6)
    async with serving(kind) as served:
        stranger = DatagramPeer(served.address)
        stranger.send(client.flight(), genuine[:5] + number + genuine[11:])
        answer = await stranger.answer()
        assert (answer[5:11], answer[RECORD_HEADER]) == (number, HELLO_VERIFY_REQUEST)
        stranger.close()
        assert served.open_channels == 0
        await served.genuine()


@each_stream
async def test_reflected_client_flight(kind: Kind):
    """Frank sends each of the client's own flights back to it, to have it talk to itself.

    Known as: the Selfie attack (ePrint 2019/347; RFC 9257 section 4.1).
    """

    over = asyncio.Event()

    async def reflect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()
        over.set()

    async with await asyncio.start_server(reflect, "127.0.0.1", 0) as mirror:
        host, port = mirror.sockets[0].getsockname()
        with pytest.raises(errors.HandshakeError):
            await open_channel(host, port, kind.client(), **arguments())
        await over.wait()


@each_datagram
async def test_reflected_client_datagrams(kind: Kind):
    """Frank sends each of the client's own datagrams back to it, to have it talk to itself.

    Known as: the Selfie attack (ePrint 2019/347; RFC 9257 section 4.1).
    """
    reflected: list[bytes] = []

    class Mirror(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # narrower
            self._transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            reflected.append(data)
            self._transport.sendto(data, addr)

    loop = asyncio.get_running_loop()
    transport, _mirror = await loop.create_datagram_endpoint(Mirror, local_addr=("127.0.0.1", 0))
    host, port = transport.get_extra_info("sockname")
    with pytest.raises(errors.HandshakeError):
        await open_datagram_channel(host, port, kind.client(), **arguments())
    assert reflected
    transport.close()


@each_datagram
async def test_recorded_datagrams_are_replayed(kind: Kind):
    """Frank records the genuine client's datagrams and sends them again, from the client's own address."""
    recorded: list[bytes] = []
    async with serving(kind) as served:
        peer, engine = DatagramPeer(served.address), kind.client()()

        def transmit() -> None:
            datagrams = [bytes(one) for one in engine.outgoing()]
            recorded.extend(datagrams)
            peer.send(*datagrams)

        while not engine.handshake():
            transmit()
            engine.feed(await peer.answer())
        engine.write(b"hello")
        transmit()
        while (first := engine.read(100)) is None:
            engine.feed(await peer.answer())
        assert first == b"served"
        engine.close()
        transmit()
        await when(lambda: not served.open_channels)
        peer.send(*recorded[1:])  # the cookie in the second hello is good for this address
        while (answer := await peer.answer())[:1] != HANDSHAKE or answer[RECORD_HEADER] != SERVER_HELLO:
            assert answer
        await when(lambda: not served.open_channels)
        peer.close()
        assert served.identities == [IDENTITY]
        assert served.arrived == [b"hello"]


@each_stream
async def test_recorded_handshake_is_replayed(kind: Kind):
    """Frank records the genuine client's bytes and plays them to the server again."""
    recorded: list[bytes] = []
    over = asyncio.Event()
    async with serving(kind) as served:

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(*served.address)

            async def back() -> None:
                while data := await far_reader.read(65536):
                    writer.write(data)
                writer.close()

            task = asyncio.ensure_future(back())
            while data := await reader.read(65536):
                recorded.append(data)
                far_writer.write(data)
            far_writer.write_eof()
            await task
            far_writer.close()
            over.set()

        async with await asyncio.start_server(relay, "127.0.0.1", 0) as between:
            assert await asks(kind, between.sockets[0].getsockname()) == b"served"
            await over.wait()
        assert served.identities == [IDENTITY]
        reader, writer = await asyncio.open_connection(*served.address)
        writer.write(b"".join(recorded))
        writer.write_eof()
        with contextlib.suppress(ConnectionError):
            assert b"served" not in await reader.read()
        writer.close()
        await when(lambda: not served.open_channels)
        assert served.identities == [IDENTITY]


@each_datagram
async def test_datagrams_with_forged_source_addresses(kind: Kind):
    """Somebody sends ClientHellos from victims' addresses, to have the server keep state or flood the victims.

    Known as: denial of service by spoofed addresses and amplification (RFC 6347 section 4.2.1).
    """
    async with serving(kind) as served:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as victim:
            victim.setblocking(False)
            victim.connect(served.address)
            for _ in range(200):
                engine = kind.client()()
                engine.handshake()
                question = bytes(engine.outgoing()[0])
                victim.send(question)
                answer = await asyncio.get_running_loop().sock_recv(victim, 65536)
                assert len(answer) <= len(question)
            assert served.open_channels == 0
        await served.genuine()


def hello(*identities: bytes) -> bytes:
    """A TLS 1.3 ClientHello that offers these PSK identities (RFC 8446 sections 4.1.2 and 4.2.11)."""

    def sized(size: int, data: bytes) -> bytes:
        return len(data).to_bytes(size) + data

    share = X25519PrivateKey.generate().public_key().public_bytes_raw()
    extensions = {
        43: sized(1, b"\3\4"),  # supported_versions
        10: sized(2, b"\0\x1d"),  # supported_groups: x25519
        51: sized(2, b"\0\x1d" + sized(2, share)),  # key_share
        13: sized(2, b"\x08\x04"),  # signature_algorithms: without it a hello without a known PSK is malformed
        45: sized(1, b"\1"),  # psk_key_exchange_modes: psk_dhe_ke
        41: sized(2, b"".join(sized(2, one) + bytes(4) for one in identities)) + sized(2, sized(1, bytes(32))),
    }
    block = b"".join(kind.to_bytes(2) + sized(2, data) for kind, data in extensions.items())
    body = b"\3\3" + bytes(32) + sized(1, b"") + sized(2, b"\x13\x03") + sized(1, b"\0") + sized(2, block)
    message = b"\1" + sized(3, body)
    pieces = (message[start : start + 16384] for start in range(0, len(message), 16384))
    return b"".join(b"\x16\3\1" + sized(2, piece) for piece in pieces)


@pytest.mark.parametrize("identities", [1, 100, 6000])
def test_hello_with_thousands_of_identities(identities: int):
    """Somebody offers thousands of PSK identities in one hello, and lets the server look each of them up."""
    asked: list[bytes] = []
    engine = TlsPskServer(asked.append)()
    engine.feed(hello(*(b"%04x" % number for number in range(identities))))
    with pytest.raises(errors.PskIdentityError):
        engine.handshake()
    assert len(asked) == min(identities, IDENTITIES_MAX)


def test_cookie_of_an_address_that_changed_hands():
    """Somebody who once had the victim's address keeps cookies for all its ports, and opens sessions in its name later.

    Known as: a cookie secret that never changes (RFC 6347 section 4.2.1).
    """
    # On OpenSSL only: Mbed TLS keeps the time in cookies of its own.
    known = {IDENTITY.encode(): Secret(KEY)}
    now = [0.5 * COOKIE_SECONDS]
    acceptor = DtlsPskServer(known.get, clock=lambda: now[0])
    client = DtlsPskClient(IDENTITY, Secret(KEY))()
    client.handshake()
    assert acceptor.accept(client.outgoing()[0], b"victim") is None
    client.feed(acceptor.outgoing()[0])
    client.handshake()
    hello = bytes(client.outgoing()[0])
    now[0] += COOKIE_SECONDS
    assert acceptor.accept(hello, b"victim") is not None  # whoever is slow, or crosses a minute, is served
    now[0] += COOKIE_SECONDS
    assert acceptor.accept(hello, b"victim") is None
    assert len(acceptor.outgoing()[0]) <= len(hello)


@each_datagram
async def test_application_datagrams_without_a_handshake(kind: Kind):
    """Somebody sends records that look like a session's, from an address that has none."""
    async with serving(kind) as served:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.connect(served.address)
            for epoch in (0, 1, 2):
                stranger.send(b"\x17\xfe\xfd" + epoch.to_bytes(2) + bytes(6) + b"\0\x20" + bytes(32))
        await served.genuine()
        assert served.arrived == [b"hello"]


async def test_stranger_with_openssl_and_a_certificate_request():
    """Somebody connects with a stock TLS client that trusts and offers anything, and gets no channel."""
    async with serving(TLS13) as served:
        host, port = served.address
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", f"{host}:{port}", "-quiet"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, _err = await process.communicate()
        assert process.returncode != 0
        assert b"served" not in out
        assert served.identities == []
        await served.genuine()
