"""Channels while two ends come to a new epoch one after the other: new ones open, open ones stay, at every step."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import ChannelKind
from mcbn_protocol.mutual_tls import LeafKind, MutualTlsTerms
from mcbn_workload.app.services import _client_end, _server_end
from mcbn_workload.channels.attempts import newest_first, none_older
from mcbn_workload.channels.errors import HandshakeError, PeerRefusedError, PskMismatchError
from mcbn_workload.endpoints import connect, connect_datagrams, listen, listen_datagrams, new_opener
from mcbn_workload.epoch_keys.mutual_tls import MutualTlsOpener
from mcbn_workload.epoch_keys.ring import KeyRing
from mcbn_workload.errors import NoKeysError
from mcbn_workload.http import ChannelTransport, serve_asgi
from mcbn_workload.kinds import DATAGRAM_CHANNELS, EngineName
from mcbn_workload.settings import Operator, Settings
from mcbn_workload.tunnel.addresses import LoopbackAddress

OVERLAP = 100  # seconds; leases last 60
STEP = 4
LONG = 600_000

KINDS = [
    (ChannelKind.TLS13_PSK, EngineName.PYOPENSSL),
    (ChannelKind.TLS12_PSK, EngineName.PYOPENSSL),
    (ChannelKind.TLS12_PSK, EngineName.MBEDTLS),
    (ChannelKind.DTLS12_PSK, EngineName.PYOPENSSL),
    (ChannelKind.DTLS12_PSK, EngineName.MBEDTLS),
    (ChannelKind.MTLS13, EngineName.PYOPENSSL),
]
every_kind = pytest.mark.parametrize(("channel", "engine"), KINDS)


@dataclass
class End:
    """One end: its settings and its keys."""

    settings: Settings
    ring: KeyRing
    running: asyncio.Task[None] | None = None

    @property
    def epochs(self) -> list[int]:
        return [keys.epoch for keys in self.ring.epochs]

    async def start(self) -> None:
        await self.ring.start()
        self.running = asyncio.create_task(self.ring.run())
        await asyncio.sleep(0)

    def at(self, address: tuple[str, int]) -> Settings:
        return _with(self.settings, connect=address)


def _with(settings: Settings, **operator: Any) -> Settings:
    changed = Operator(brokers=settings.operator.brokers, **operator)
    values = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    return Settings(**values | {"operator": changed})


class Lab:
    """Two ends of one kind of channel, and the participants."""

    def __init__(self, network, channel, engine):
        self.network = network
        self.datagrams = channel in DATAGRAM_CHANNELS
        self.terms = {
            "channels": (channel,),
            "mutual_tls": MutualTlsTerms(LeafKind.ED25519, None, None) if channel is ChannelKind.MTLS13 else None,
            "valid_until": int(network.time.wall) + LONG,
        }
        network.open_epoch(1, valid_from=int(network.time.wall) - 100, **self.terms)
        self.server, self.client = (self._end(role, channel, engine) for role in (Role.SERVER, Role.CLIENT))
        self.address = ("", 0)

    def _end(self, role, channel, engine):
        network = self.network
        settings = network.settings(role, channel=channel, engine=engine)
        patience = network.patience(sleep=network.time.sleep, gather_seconds=1000)
        ring = KeyRing(
            network.gatherer(patience, role=role, channel=channel),
            network.names,
            clock=network.time.clock,
            patience=patience,
            opener=new_opener(settings, network.time.clock),
        )
        return End(settings, ring)

    async def start(self, first):
        """Start both ends, 20 s apart, and let the first one's renewal pass: the other is the next to renew."""
        second = self.client if first is self.server else self.server
        await first.start()
        await self.network.time.advance(20)
        await second.start()
        await self.network.time.advance(14)

    def open_epoch(self, overlap=OVERLAP):
        return self.network.open_epoch(2, valid_from=int(self.network.time.wall), overlap_seconds=overlap, **self.terms)

    @contextlib.asynccontextmanager
    async def listening(self):
        settings = _with(self.server.settings, listen=("127.0.0.1", 0))
        server = (
            listen_datagrams(echo_datagrams, settings, keys=self.server.ring)
            if self.datagrams
            else listen(echo, settings, keys=self.server.ring)
        )
        async with server as listener:
            self.address = listener.addresses[0]
            yield

    def opened(self):
        opening = connect_datagrams if self.datagrams else connect
        return opening(self.client.at(self.address), keys=self.client.ring)

    async def said(self, channel):
        if self.datagrams:
            channel.send(b"hello")
            return await channel.receive()
        await channel.write(b"hello")
        return await channel.read()


async def echo(channel):
    while data := await channel.read():
        await channel.write(data)


async def echo_datagrams(channel):
    while data := await channel.receive():
        channel.send(data)


@pytest.fixture
async def new_lab(network, monkeypatch):
    monkeypatch.setattr(MutualTlsOpener, "slow", False)  # virtual time waits for no thread
    network.time.wall = float(int(time.time()))  # OpenSSL judges certificates by the real clock
    labs = []

    def make(channel=ChannelKind.TLS13_PSK, engine=EngineName.PYOPENSSL):
        labs.append(Lab(network, channel, engine))
        return labs[-1]

    yield make
    for lab in labs:
        running = [end.running for end in (lab.server, lab.client) if end.running is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def client_ahead(lab):
    """The client holds both epochs, the server the older one only."""
    await lab.start(lab.server)
    lab.open_epoch()
    while lab.client.epochs == [1]:
        await lab.network.time.advance(1)
    assert (lab.server.epochs, lab.client.epochs) == ([1], [1, 2])


@every_kind
@pytest.mark.parametrize("earlier", ["server", "client"])
async def test_channels_open_and_stay_at_every_step_of_an_overlap(new_lab, channel, engine, earlier):
    lab = new_lab(channel, engine)
    await lab.start(getattr(lab, earlier))
    over_at = lab.network.time.wall + OVERLAP
    seen, used = set(), []
    async with lab.listening(), contextlib.AsyncExitStack() as stack:
        held = await stack.enter_async_context(lab.opened())
        lab.open_epoch()
        while lab.network.time.wall < over_at + 2 * STEP:
            if lab.network.time.wall < over_at:
                assert await lab.said(held) == b"hello"
            async with lab.opened() as fresh:
                assert await lab.said(fresh) == b"hello"
                used.append(fresh.epoch)
            seen.add((tuple(lab.server.epochs), tuple(lab.client.epochs)))
            await lab.network.time.advance(STEP)
        with pytest.raises(NoKeysError):
            await lab.said(held)
        stack.pop_all()
    assert used == sorted(used), "once both ends hold the newer epoch, its key is used"
    between = ((1,), (1, 2)) if earlier == "server" else ((1, 2), (1,))
    assert seen == {((1,), (1,)), between, ((1, 2), (1, 2)), ((2,), (2,))}


@every_kind
async def test_an_epoch_whose_overlap_is_over_is_not_fallen_back_on(new_lab, channel, engine):
    """Frank runs a removed server image on; its keys of the older epoch never end."""
    lab = new_lab(channel, engine)
    for end in (lab.server, lab.client):
        await end.start()
    removed = lab.server.ring
    removed.guard = lambda _identity: None
    removed._end = lambda _keys: None
    for keys in removed.epochs:
        keys.remaining = lambda: LONG
    lab.server.running.cancel()
    lab.server.ring.stop = lambda: None
    async with lab.listening():
        async with lab.opened() as channel_before:
            assert await lab.said(channel_before) == b"hello"
        lab.open_epoch(overlap=0)
        await lab.network.time.advance(40)
        assert (lab.server.epochs, lab.client.epochs) == ([1], [2])
        with pytest.raises(HandshakeError):
            async with lab.opened():
                pass


@pytest.mark.parametrize("channel", [ChannelKind.TLS13_PSK, ChannelKind.MTLS13])
async def test_the_tunnel_opens_a_channel_under_the_older_epoch(new_lab, channel):
    lab = new_lab(channel)
    await client_ahead(lab)

    async def answer(reader, writer):
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    application = await asyncio.start_server(answer, "127.0.0.1", 0)
    target = LoopbackAddress("127.0.0.1", application.sockets[0].getsockname()[1])
    async with application, tunnel(lab, target) as address:
        host, port = address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()


class EchoSocket(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
        self.arrived = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        if addr[1] != self.to:
            self.transport.sendto(data, addr)
        else:
            self.arrived.set_result(data)

    to = 0


async def test_the_udp_tunnel_opens_a_channel_under_the_older_epoch(new_lab):
    lab = new_lab(ChannelKind.DTLS12_PSK)
    await client_ahead(lab)
    loop = asyncio.get_running_loop()
    served, _ = await loop.create_datagram_endpoint(EchoSocket, local_addr=("127.0.0.1", 0))
    target = LoopbackAddress("127.0.0.1", served.get_extra_info("sockname")[1])
    async with tunnel(lab, target) as address:
        host, port = address.rsplit(":", 1)
        asked, asker = await loop.create_datagram_endpoint(EchoSocket, remote_addr=(host, int(port)))
        asker.to = int(port)
        asked.sendto(b"hello")
        assert await asker.arrived == b"hello"
        asked.close()
    served.close()


@contextlib.asynccontextmanager
async def tunnel(lab, target):
    """Both ends as the program runs them; gives the client's plaintext address."""
    server, client = lab.server, lab.client
    async with _server_end(server.settings, server.ring, "127.0.0.1", 0, target) as far:
        near = LoopbackAddress("127.0.0.1", 0)
        async with _client_end(client.settings, client.ring, near, far.addresses[0]) as end:
            yield end.addresses[0]


async def test_http_opens_a_channel_under_the_older_epoch(new_lab):
    lab = new_lab()
    await client_ahead(lab)

    async def application(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    settings = _with(lab.server.settings, listen=("127.0.0.1", 0))
    async with listen(serve_asgi(application), settings, keys=lab.server.ring) as server:
        lab.address = server.addresses[0]
        async with httpx.AsyncClient(transport=ChannelTransport(lab.opened), base_url="http://far-end") as client:
            assert (await client.get("/")).text == "ok"


# One attempt, and another.


class Attempts:
    def __init__(self, *outcomes):
        self._outcomes = list(outcomes)
        self.engines = []

    async def __call__(self, new_engine):
        self.engines.append(new_engine())
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


async def test_an_older_key_is_asked_for_only_when_the_newest_is_refused():
    attempts, asked = Attempts("open"), []
    assert await newest_first(attempts, lambda: "new", lambda: asked.append(1)) == "open"
    assert (attempts.engines, asked) == (["new"], [])


async def test_there_is_one_attempt_where_there_is_one_key():
    attempts = Attempts(PeerRefusedError("first"))
    with pytest.raises(PeerRefusedError, match="first"):
        await newest_first(attempts, lambda: "new", none_older)
    assert attempts.engines == ["new"]


async def test_there_are_two_attempts_at_most_and_the_last_ones_reason_is_given():
    attempts = Attempts(PeerRefusedError("first"), PskMismatchError("second"))
    with pytest.raises(PskMismatchError, match="second"):
        await newest_first(attempts, lambda: "new", lambda: "old")
    assert attempts.engines == ["new", "old"]


async def test_only_a_failed_handshake_is_a_reason_for_another_attempt():
    attempts = Attempts(NoKeysError("the lease has ended"))
    with pytest.raises(NoKeysError):
        await newest_first(attempts, lambda: "new", lambda: "old")
    assert attempts.engines == ["new"]


async def test_the_older_engine_is_that_of_a_live_epoch_or_none(new_lab):
    lab = new_lab()
    await client_ahead(lab)
    ring = lab.client.ring
    assert ring.older_client_engine().psk_identity == ring.epochs[0].identity
    assert ring.client_engine().psk_identity == ring.epochs[1].identity
    lab.network.time.wall += OVERLAP  # no timer has run: the older epoch's keys are there yet
    assert len(ring.epochs) == 2
    assert ring.older_client_engine() is None
