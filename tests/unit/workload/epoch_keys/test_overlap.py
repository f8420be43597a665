"""An overlap of two epochs: each is renewed by itself, for as long as the participants agreed."""

import asyncio

import pytest

from mcbn_protocol.identifiers import Role
from mcbn_protocol.messages import ChallengeRequest
from mcbn_workload.epoch_keys.epoch import LeaseEndedError
from mcbn_workload.epoch_keys.ring import KeyRing
from tests.unit.workload.conftest import FakeBroker
from tests.unit.workload.epoch_keys.running_ring import running

OVERLAP = 200  # seconds, several leases long


@pytest.fixture
def new_ring(network):
    def make(role=Role.SERVER):
        patience = network.patience(sleep=network.time.sleep, gather_seconds=1000)
        return KeyRing(
            network.gatherer(patience, role=role), network.names, clock=network.time.clock, patience=patience
        )

    return make


@pytest.fixture
async def ring(new_ring):
    async with running(new_ring()) as ring:
        yield ring


def epochs(ring):
    return [keys.epoch for keys in ring.epochs]


def asked_under(broker, agreed):
    """Count the challenges that were asked for under one manifest."""
    bodies = [one.content for one in broker.requests if one.url.path == "/v1/challenges"]
    return sum(ChallengeRequest.parse(body).manifest_hash == agreed.hash for body in bodies)


def silent_under(broker, agreed):
    """Let a broker keep silence about one manifest; return what ends it."""
    speaks = asyncio.get_running_loop().create_future()

    async def silence():
        await asyncio.shield(speaks)

    def reply(request):
        under = request.url.path == "/v1/challenges" and ChallengeRequest.parse(request.content).manifest_hash
        return silence() if under == agreed.hash else None

    broker.reply = reply
    return lambda: speaks.set_result(None)


async def test_both_epochs_are_renewed_until_the_overlap_is_over(network, ring):
    (old,) = ring.epochs
    network.open_epoch(2, valid_from=int(network.time.wall), overlap_seconds=OVERLAP)
    await network.time.advance(OVERLAP - 1)
    ring.guard(old.identity)
    assert epochs(ring) == [1, 2]
    await network.time.advance(1)
    with pytest.raises(LeaseEndedError, match="open a new channel"):
        ring.guard(old.identity)
    assert epochs(ring) == [2]
    await network.time.advance(OVERLAP)
    ring.guard()


async def test_after_a_skipped_epoch_there_is_no_overlap(network, ring):
    """The one that was skipped may have been a revocation."""
    (old,) = ring.epochs
    network.open_epoch(3, valid_from=int(network.time.wall), overlap_seconds=OVERLAP)
    while 3 not in epochs(ring):
        await network.time.advance(1)
    assert epochs(ring) == [3]
    with pytest.raises(LeaseEndedError):
        ring.guard(old.identity)


async def test_a_lease_that_outlasts_the_overlap_is_not_renewed(network, ring):
    first, bob = network.agreed, network.brokers["bob"]
    network.open_epoch(2, valid_from=int(network.time.wall), overlap_seconds=60)
    await network.time.advance(40)
    assert epochs(ring) == [1, 2]
    asked = asked_under(bob, first)
    await network.time.advance(100)
    assert epochs(ring) == [2]
    assert asked_under(bob, first) == asked


@pytest.mark.parametrize("silent", ["bob", "carol"])
async def test_a_broker_that_is_silent_about_the_next_epoch_does_not_cost_the_live_one(network, ring, silent):
    """A gathering goes on for longer than a lease lasts: meanwhile the leases are renewed, again and again."""
    newer = network.open_epoch(2, valid_from=int(network.time.wall), overlap_seconds=10_000)
    speak = silent_under(network.brokers[silent], newer)
    for _ in range(30):
        await network.time.advance(10)
        ring.guard()
        assert epochs(ring) == [1]
    speak()
    await network.time.advance(40)
    assert epochs(ring) == [1, 2]


async def test_a_broker_that_is_silent_about_the_older_epoch_does_not_cost_the_newer_one(network, ring):
    (old,) = ring.epochs
    network.open_epoch(2, valid_from=int(network.time.wall), overlap_seconds=10_000)
    await network.time.advance(40)
    silent_under(network.brokers["bob"], network.agreed)
    await network.time.advance(300)
    assert epochs(ring) == [2]
    with pytest.raises(LeaseEndedError):
        ring.guard(old.identity)


async def test_a_newer_epoch_that_cannot_be_followed_is_logged_with_what_stays(network, ring, caplog):
    newer = network.open_epoch(2, valid_from=int(network.time.wall), overlap_seconds=OVERLAP)
    network.brokers["bob"].reply = lambda request: (
        FakeBroker.problem("manifest_not_accepted")
        if request.url.path == "/v1/challenges" and ChallengeRequest.parse(request.content).manifest_hash == newer.hash
        else None
    )
    await network.time.advance(40)
    assert epochs(ring) == [1]
    (line,) = [one for one in caplog.records if getattr(one, "event", "") == "gather_incomplete"]
    assert line.getMessage().startswith("no keys of epoch 2 yet; the keys of epoch 1 stay: ")
    assert line.epoch == 2


async def test_the_reason_of_an_epochs_end_is_that_epochs_own(network, ring):
    """Bob pauses for everything; what the brokers said of another manifest explains nothing."""
    (old,) = ring.epochs
    network.open_epoch(2, valid_from=int(network.time.wall), overlap_seconds=10_000)
    await network.time.advance(40)
    silent_under(network.brokers["bob"], network.agreed)
    network.brokers["carol"].refusal = "consent_paused"
    await network.time.advance(61)
    with pytest.raises(LeaseEndedError) as caught:
        ring.guard(None)
    assert "carol has paused" in str(caught.value)
    assert old.psk is None


async def test_both_ends_hold_a_common_epoch_at_every_second(network, new_ring):
    """Whoever starts earlier renews earlier: the ends come to the new epoch one after the other."""
    async with running(new_ring()) as server:
        await network.time.advance(20)
        async with running(new_ring(Role.CLIENT)) as client:
            await network.time.advance(14)
            network.open_epoch(2, valid_from=int(network.time.wall), overlap_seconds=OVERLAP)
            seen = set()
            for _ in range(2 * OVERLAP):
                await network.time.advance(1)
                assert set(epochs(server)) & set(epochs(client))
                seen.add((*epochs(server), 0, *epochs(client)))
    assert seen == {(1, 0, 1), (1, 0, 1, 2), (1, 2, 0, 1, 2), (2, 0, 2)}
