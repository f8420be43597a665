"""The ring over time: renewal, an end that names its cause, healing, and the change of an epoch."""

import asyncio
import contextlib
import dataclasses
import functools

import httpx
import pytest

from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.manifest import BrokerAddress
from mcbn_protocol.messages import ChallengeRequest
from mcbn_protocol.secret import Secret
from mcbn_workload.brokers.errors import ManifestUnavailableError, QuorumIncompleteError
from mcbn_workload.channels.errors import ChannelError, ChannelTruncatedError, PskIdentityError, PskMismatchError
from mcbn_workload.channels.listener import serve_channels
from mcbn_workload.channels.registry import ChannelRegistry
from mcbn_workload.channels.streams import Channel, open_channel
from mcbn_workload.channels.tls_psk import TlsPskClient, TlsPskServer
from mcbn_workload.epoch_keys.epoch import LeaseEndedError
from mcbn_workload.epoch_keys.pace import RETRY_MIN
from mcbn_workload.epoch_keys.ring import KeyRing
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.settings import Operator
from tests.unit.workload.epoch_keys.running_ring import running

LONG = 600_000  # seconds


@pytest.fixture
def new_ring(network):
    def make(role=Role.SERVER, **settings):
        patience = network.patience(sleep=network.time.sleep, gather_seconds=1000)
        return KeyRing(
            network.gatherer(patience, role=role, **settings),
            network.names,
            clock=network.time.clock,
            patience=patience,
        )

    return make


@pytest.fixture
async def ring(new_ring):
    async with running(new_ring()) as ring:
        yield ring


def events(caplog):
    return [record.event for record in caplog.records if hasattr(record, "event")]


async def test_before_the_start_there_are_no_keys(new_ring):
    ring = new_ring()
    with pytest.raises(LeaseEndedError, match="no keys have been gathered"):
        ring.guard()
    assert ring.lookup(b"mcbn1.x") is None


async def test_a_start_gathers_and_says_what_two_ends_may_compare(network, new_ring, caplog):
    caplog.set_level("INFO", "mcbn")
    ring = new_ring()
    keys = await ring.start()
    ring.guard()
    assert ring.epochs == (keys,)
    (gathered,) = [record for record in caplog.records if getattr(record, "event", "") == "gathered"]
    assert gathered.psk_identity == keys.identity
    assert gathered.key_check == keys.key_check
    assert gathered.manifest_hash == network.agreed.hash.hex()
    assert keys.psk.reveal().hex() not in caplog.text
    assert "manifest" in events(caplog)


async def test_an_incomplete_start_is_an_error_with_a_table(network, new_ring):
    network.brokers["bob"].refusal = "consent_paused"
    with pytest.raises(QuorumIncompleteError, match="bob has paused") as caught:
        await new_ring().start()
    assert len(caught.value.rows) == 3


async def test_a_start_without_a_manifest_is_an_error(network, new_ring):
    network.brokers.clear()
    with pytest.raises(ManifestUnavailableError):
        await new_ring().start()


async def test_only_the_exact_identity_is_known(ring):
    (keys,) = ring.epochs
    assert ring.lookup(keys.identity.encode()) == keys.psk
    for other in (b"", keys.identity.encode()[:-1], keys.identity.encode() + b" ", b"\xff"):
        assert ring.lookup(other) is None


async def test_leases_are_renewed_from_half_life_on_with_fresh_evidence(network, ring, caplog):
    caplog.set_level("INFO", "mcbn")
    (keys,) = ring.epochs
    before = [broker.challenges for broker in network.brokers.values()]
    await network.time.advance(29)
    assert [broker.challenges for broker in network.brokers.values()] == before
    await network.time.advance(10)
    assert [broker.challenges for broker in network.brokers.values()] == [2, 2, 2]
    assert ring.epochs == (keys,)
    assert "renewed" in events(caplog)
    await network.time.advance(600)
    ring.guard()
    assert ring.epochs == (keys,)
    assert len(set(network.attester.asked)) == len(network.attester.asked)


async def test_a_pause_ends_the_keys_within_the_lease_and_names_the_participant(network, ring, caplog):
    caplog.set_level("INFO", "mcbn")
    network.brokers["bob"].refusal = "consent_paused"
    await network.time.advance(59)
    ring.guard()
    await network.time.advance(2)
    with pytest.raises(LeaseEndedError) as caught:
        ring.guard()
    assert caught.value.participants == ("bob",)
    assert "the lease of bob: bob refuses: bob has paused its consent" in str(caught.value)
    (ended,) = [record for record in caplog.records if getattr(record, "event", "") == "lease_ended"]
    assert ended.participants == ["bob"]
    assert ring.epochs == ()


async def test_the_key_is_dropped_when_the_lease_ends(network, ring):
    (keys,) = ring.epochs
    network.brokers["bob"].refusal = "consent_paused"
    await network.time.advance(61)
    assert keys.psk is None
    assert ring.lookup(keys.identity.encode()) is None
    with pytest.raises(LeaseEndedError):
        ring.client_engine()


async def test_allowed_again_it_heals_by_itself(network, ring):
    network.brokers["bob"].refusal = "consent_paused"
    await network.time.advance(100)
    assert ring.epochs == ()
    network.brokers["bob"].refusal = None
    await network.time.advance(15)
    ring.guard()
    assert len(ring.epochs) == 1


async def test_a_silent_broker_is_named_and_the_others_leases_are_kept(network, ring):
    network.brokers["bob"].reply = lambda _request: httpx.Response(503)
    await network.time.advance(61)
    with pytest.raises(LeaseEndedError) as caught:
        ring.guard()
    assert caught.value.participants == ("bob",)
    assert "no valid answer from bob" in str(caught.value)


async def test_a_hung_broker_does_not_hold_back_the_others_leases(network, ring):
    hung = asyncio.get_running_loop().create_future()
    network.brokers["bob"].reply = lambda request: None if request.method == "GET" else hung
    await network.time.advance(61)
    with pytest.raises(LeaseEndedError, match="bob gave no new lease in time") as caught:
        ring.guard()
    assert caught.value.participants == ("bob",)


async def test_a_broker_that_answers_late_in_the_lease_still_counts(network, ring):
    network.brokers["bob"].refusal = "consent_paused"
    await network.time.advance(50)
    network.brokers["bob"].refusal = None
    await network.time.advance(60)
    ring.guard()


async def test_a_changed_share_at_renewal_is_refused(network, ring):
    network.brokers["bob"].share = network.share("alice")
    await network.time.advance(61)
    with pytest.raises(LeaseEndedError, match="bob signed a wrong release"):
        ring.guard()


async def test_no_manifest_at_renewal_is_no_reason_to_stop(network, ring):
    for broker in network.brokers.values():
        broker.reply = lambda request: httpx.Response(500) if request.url.path == "/v1/manifest" else None
    await network.time.advance(120)
    ring.guard()


async def test_a_conflict_of_manifests_at_renewal_ends_the_leases_and_says_so(network, ring, caplog):
    for name, seconds in (("alice", 30), ("bob", 40)):
        bundle = network.agree(2, lease_seconds=seconds).bundle
        broker = network.brokers[name]
        broker.reply = lambda request, bundle=bundle: (
            httpx.Response(200, content=bundle) if request.url.path == "/v1/manifest" else None
        )
    before = [broker.challenges for broker in network.brokers.values()]
    await network.time.advance(59)
    ring.guard()
    await network.time.advance(2)
    with pytest.raises(LeaseEndedError, match="no lease is renewed, because two different manifests of epoch 2"):
        ring.guard()
    assert [broker.challenges for broker in network.brokers.values()] == before
    assert "manifest_conflict" in events(caplog)
    network.brokers["alice"].reply = lambda _request: None
    network.brokers["bob"].reply = lambda _request: None
    await network.time.advance(10)
    ring.guard()


@pytest.mark.parametrize(
    "address", [BrokerAddress("https://256.1.1.1", None), BrokerAddress("https://b.example", "\u00e9")]
)
async def test_an_address_that_cannot_be_used_costs_an_answer_and_not_the_workload(network, new_ring, caplog, address):
    """Manifests with such entries are not read any more; the HTTP client's seam does not rest on it."""
    bad = changed(network.agreed, brokers=dict(network.agreed.manifest.brokers) | {"bob": address})
    network.connector.transport = functools.partial(real_tls, network.connector, network.connector.transport)
    operator = Operator(brokers={"alice": "https://alice.example"})  # the others' addresses are the manifest's
    async with running(new_ring(operator=operator)) as ring:
        ring._candidates = [bad, network.agreed]
        await network.time.advance(300)
        ring.guard()
    assert any("no valid answer from bob: " in text for text in caplog.messages)


def changed(agreed, **terms):
    """The manifest of the next epoch, as if it had passed the checks that refuse such terms."""
    previous = ManifestHash(bytes(32))
    manifest = dataclasses.replace(agreed.manifest, epoch=2, previous=previous, **terms)
    return dataclasses.replace(agreed, manifest=manifest, hash=previous)


def real_tls(connector, transport, address):
    connector._context(address.tls_ca)
    return transport(address)


async def test_a_signed_epoch_that_nobody_releases_under_is_not_waited_for(network, ring):
    """Alice serves the next manifest already; the others pause, allow again, and still release under this one."""
    network.brokers["alice"].agreed = network.agree(2)
    for name in ("bob", "carol"):
        network.brokers[name].refusal = "consent_paused"
    await network.time.advance(100)
    assert ring.epochs == ()
    old = network.agreed.hash
    for name, broker in network.brokers.items():
        broker.refusal = None
        broker.reply = functools.partial(serve_only, broker, old)
        broker.agreed = network.agree(2) if name == "alice" else network.agreed
    await network.time.advance(30)
    assert [keys.epoch for keys in ring.epochs] == [1]


def serve_only(broker, manifest_hash, request):
    """Release under one manifest, whichever is shown."""
    if request.url.path == "/v1/challenges" and ChallengeRequest.parse(request.content).manifest_hash != manifest_hash:
        return broker.problem("manifest_not_accepted")
    if request.url.path == "/v1/releases":
        shown, broker.agreed = broker.agreed, broker.network.agreed
        response = broker._release(request)
        broker.agreed = shown
        return response
    return None


async def test_no_epoch_below_one_that_was_live_is_gathered_again(network, ring):
    network.open_epoch(2, valid_from=int(network.time.wall), overlap_seconds=0)
    await network.time.advance(40)
    assert [keys.epoch for keys in ring.epochs] == [2]
    for name, broker in network.brokers.items():
        broker.agreed, broker.share = network.agreed, network.share(name)
        broker.reply = functools.partial(serve_only, broker, network.agreed.hash)
    await network.time.advance(300)
    assert ring.epochs == ()
    with pytest.raises(LeaseEndedError):
        ring.guard()


async def test_a_third_epoch_ends_the_first_and_does_not_prolong_it(network, new_ring):
    network.agreed = network.open_epoch(1, lease_seconds=LONG)
    for broker in network.brokers.values():
        broker.lease_seconds = LONG
    async with running(new_ring()) as ring:
        (first,) = ring.epochs
        for epoch, overlap in ((2, LONG), (3, LONG)):
            network.open_epoch(epoch, overlap_seconds=overlap, valid_from=int(network.time.wall), lease_seconds=LONG)
            await ring._look()
            await ring._follow(ring._newer())
        assert [keys.epoch for keys in ring.epochs] == [2, 3]
        assert first.psk is None
        assert ring.lookup(first.identity.encode()) is None


async def test_a_gathering_that_is_over_when_it_is_complete_is_no_tight_loop(network, ring):
    """Its validity and overlap are long over: brokers are asked about once a second, and not in a flood."""
    adopt = ring._adopt

    def adopt_and_lose(gathering):
        adopt(gathering)
        for keys in ring.epochs:
            ring._end(keys)

    ring._adopt = adopt_and_lose
    network.open_epoch(2)
    await network.time.advance(60)
    assert network.brokers["bob"].challenges <= 32
    assert ring.epochs == ()
    assert ring._until_attempt(0) >= RETRY_MIN


async def test_a_manifest_without_this_images_channel_is_not_followed(network):
    gatherer = network.gatherer(channel="dtls12-psk")
    with pytest.raises(ConfigurationError, match="channel is dtls12-psk, but the manifest of epoch 1 allows tls13-psk"):
        await gatherer.gather(network.agreed, network.names, lambda _row, _outcome: None)
    assert not network.attester.asked


async def test_a_later_manifest_without_this_images_channel_leaves_the_keys(network, ring, caplog):
    caplog.set_level("INFO", "mcbn")
    ring._candidates = [changed(network.agreed, channels=("dtls12-psk",)), network.agreed]
    await network.time.advance(300)
    assert "gather_incomplete" in events(caplog)
    assert "allows dtls12-psk" in caplog.text
    ring.guard()


async def test_a_channel_does_not_open_under_an_epoch_that_ended_while_it_connected(network, new_ring, monkeypatch):
    """The operator delays the connection until the epoch is revoked; a removed server image still has its key."""
    async with running(new_ring(Role.CLIENT)) as client:
        (revoked,) = client.epochs
        stolen = {revoked.identity.encode(): Secret(revoked.psk.reveal())}
        received = []

        async def listen(channel):
            while data := await channel.read():
                received.append(data)

        loop = asyncio.get_running_loop()
        reached, resolve = asyncio.Event(), loop.getaddrinfo

        async def slow(*arguments, **options):
            await reached.wait()
            return await resolve(*arguments, **options)

        monkeypatch.setattr(loop, "getaddrinfo", slow)
        async with serve_channels(
            "127.0.0.1", 0, TlsPskServer(stolen.get), listen, guard=lambda _identity: None, registry=ChannelRegistry()
        ) as removed:
            connecting = asyncio.create_task(opened(client, ("localhost", removed.addresses[0][1])))
            await network.time.settle()
            network.open_epoch(2, overlap_seconds=0, valid_from=int(network.time.wall))
            await network.time.advance(40)
            assert [keys.epoch for keys in client.epochs] == [2]
            reached.set()
            with pytest.raises(LeaseEndedError, match="the epoch of this channel's key has ended"):
                await connecting
        assert not received


async def test_a_channel_is_guarded_by_its_own_epochs_key(network, ring):
    (old,) = ring.epochs
    network.open_epoch(2, overlap_seconds=0, valid_from=int(network.time.wall))
    await network.time.advance(40)
    ring.guard(None)
    ring.guard(ring.epochs[0].identity)
    with pytest.raises(LeaseEndedError, match="open a new channel"):
        ring.guard(old.identity)


async def test_a_renewal_that_comes_too_late_does_not_bring_an_epoch_back(network, ring):
    (old,) = ring.epochs
    answer = asyncio.Event()

    async def wait():
        await answer.wait()

    network.brokers["bob"].reply = lambda request: None if request.method == "GET" else wait()
    await network.time.advance(61)
    assert ring.epochs == ()
    answer.set()
    await network.time.advance(5)
    assert old.psk is None
    assert old not in ring.epochs
    ring.guard()


async def test_after_a_suspend_the_guard_ends_the_keys_at_once(network, ring):
    network.time.boottime += 61  # no timer has run
    with pytest.raises(LeaseEndedError):
        ring.guard()


async def test_a_new_epoch_is_followed_and_both_are_served_during_the_overlap(network, ring):
    (old,) = ring.epochs
    valid_from = int(network.time.wall)
    network.open_epoch(2, valid_from=valid_from, overlap_seconds=50)
    await network.time.advance(40)
    assert [keys.epoch for keys in ring.epochs] == [1, 2]
    new = ring.epochs[1]
    assert ring.lookup(old.identity.encode()) == old.psk
    assert ring.lookup(new.identity.encode()) == new.psk
    assert ring.client_engine().psk_identity == new.identity
    assert old.psk != new.psk
    await network.time.advance(15)
    assert ring.epochs == (new,)
    assert old.psk is None
    ring.guard()


async def test_without_overlap_the_old_epoch_ends_at_once(network, ring):
    (old,) = ring.epochs
    network.open_epoch(2, valid_from=int(network.time.wall), overlap_seconds=0)
    await network.time.advance(40)
    assert [keys.epoch for keys in ring.epochs] == [2]
    assert old.psk is None


async def test_a_new_epoch_that_is_not_complete_leaves_the_old_one(network, ring, caplog):
    caplog.set_level("INFO", "mcbn")
    newer = network.agree(2)
    network.brokers["alice"].agreed = newer
    for name in ("bob", "carol"):
        broker = network.brokers[name]
        broker.change_release = lambda release: release
    await network.time.advance(40)
    assert [keys.epoch for keys in ring.epochs] == [1]
    assert "gather_incomplete" in events(caplog)


async def test_the_end_of_the_run_forgets_everything(network, new_ring):
    async with running(new_ring()) as ring:
        (keys,) = ring.epochs
    assert keys.psk is None
    with pytest.raises(LeaseEndedError, match="stops"):
        ring.guard()


async def echo(channel: Channel) -> None:
    while data := await channel.read():
        await channel.write(data)


@contextlib.asynccontextmanager
async def serving(ring):
    async with serve_channels(
        "127.0.0.1", 0, TlsPskServer(ring.lookup), echo, guard=ring.guard, registry=ring.registry
    ) as server:
        yield server.addresses[0]


async def opened(client, address):
    host, port = address
    return await open_channel(host, port, client.client_engine, guard=client.guard, registry=client.registry)


class Discarded(list):
    """The reasons of the channels that a registry let go; wait until there are so many."""

    def __init__(self, registry):
        self._changed = asyncio.Event()
        self._discard = registry.discard
        registry.discard = self._note

    def _note(self, channel):
        self.append(channel.reason)
        self._discard(channel)
        self._changed.set()

    async def until(self, count):
        while len(self) < count:
            self._changed.clear()
            await self._changed.wait()


async def test_a_pause_ends_open_channels_at_both_ends(network, new_ring):
    async with running(new_ring()) as server, running(new_ring(Role.CLIENT)) as client, serving(server) as address:
        discarded = Discarded(server.registry)
        channel = await opened(client, address)
        await channel.write(b"hello")
        assert await channel.read() == b"hello"
        assert channel.negotiated.identity == server.epochs[0].identity
        network.brokers["bob"].refusal = "consent_paused"
        await network.time.advance(61)
        with pytest.raises(LeaseEndedError, match="bob has paused"):
            await channel.read()
        await discarded.until(1)
        assert isinstance(discarded[0], LeaseEndedError)
        assert not len(server.registry)
        with pytest.raises(LeaseEndedError):
            await opened(client, address)


async def test_only_the_old_epochs_channels_end_with_it(network, new_ring):
    async with running(new_ring()) as server, running(new_ring(Role.CLIENT)) as client, serving(server) as address:
        old = await opened(client, address)
        network.open_epoch(2, valid_from=int(network.time.wall), overlap_seconds=50)
        await network.time.advance(40)
        new = await opened(client, address)
        await network.time.advance(15)
        with pytest.raises((LeaseEndedError, ChannelTruncatedError)):  # whichever end is first; the other sees a reset
            await old.read()
        await new.write(b"still here")
        assert await new.read() == b"still here"
        await new.close()


@pytest.mark.parametrize("wrong", ["key", "identity"])
async def test_another_key_is_explained_with_the_three_values(network, ring, caplog, wrong):
    keys = ring.epochs[0]
    identity, psk = (keys.identity, network.share("bob")) if wrong == "key" else ("mcbn1.other", keys.psk)
    reasons = Discarded(ring.registry)
    stranger = TlsPskClient(identity, psk)
    async with serving(ring) as (host, port):
        for _ in range(2):
            with pytest.raises(ChannelError):
                await open_channel(host, port, stranger, guard=lambda _identity: None, registry=ChannelRegistry())
        await reasons.until(2)
    assert isinstance(reasons[0], PskMismatchError if wrong == "key" else PskIdentityError)
    explained = [record for record in caplog.records if getattr(record, "event", "") == "psk_mismatch"]
    assert len(explained) == 1  # a flood of peers makes no flood of explanations
    assert explained[0].psk_identity == keys.identity
    assert explained[0].key_check == keys.key_check
    assert explained[0].manifest_hash == network.agreed.hash.hex()
    assert "Compare these values" in explained[0].getMessage()


async def test_an_unfinished_handshake_ends_with_the_keys(network, ring):
    """Its key was looked up already, or will be: it must not complete under a key that is gone."""
    added, add = asyncio.Event(), ring.registry.add

    def note(channel):
        add(channel)
        added.set()

    ring.registry.add = note
    async with serving(ring) as address:
        reader, writer = await asyncio.open_connection(*address)
        await added.wait()
        network.brokers["bob"].refusal = "consent_paused"
        await network.time.advance(61)
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.close()
