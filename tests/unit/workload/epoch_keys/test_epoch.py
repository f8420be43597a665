"""The keys of one epoch: what they are derived from, how long they live, and that they can be forgotten."""

import dataclasses

import pytest

from mcbn_protocol.key_schedule import Purpose, derive, epoch_secret, key_check, psk_identity
from mcbn_workload.brokers.errors import QuorumIncompleteError
from mcbn_workload.brokers.leases import Clock, Lease
from mcbn_workload.brokers.outcomes import Released
from mcbn_workload.brokers.quorum import Gathering
from mcbn_workload.epoch_keys.epoch import EpochKeys, LeaseEndedError, SharesRefusedError


@pytest.fixture
def gathering(network):
    released = {
        name: Released(network.share(name), Lease(name, 1000.0, int(network.time.wall), 60), 1)
        for name in network.names
    }
    return Gathering(network.agreed, (), released, 3)


@pytest.fixture
def keys(network, gathering):
    return EpochKeys(gathering, network.time.clock)


def live(keys, network, *, boottime=0.0, wall=0.0):
    network.time.boottime += boottime
    network.time.wall += wall
    return keys.remaining() > 0


def test_the_keys_are_those_of_the_key_schedule(network, keys):
    agreed = network.agreed
    secret = epoch_secret(agreed.manifest.scheme, {name: network.share(name) for name in network.names})
    assert keys.psk == derive(secret, Purpose.TLS13_PSK, agreed.hash, 1)
    assert keys.identity == psk_identity(agreed.hash, 1, Purpose.TLS13_PSK)
    assert keys.key_check == key_check(secret, agreed.hash, 1)
    assert (keys.epoch, [lease.participant for lease in keys.leases]) == (1, ["alice", "bob", "carol"])


def test_no_share_or_secret_is_kept(network, keys):
    kept = repr(vars(keys))
    assert "Share" not in kept
    assert "EpochSecret" not in kept
    assert all(network.share(name).reveal().hex() not in kept for name in network.names)


def test_an_incomplete_gathering_gives_no_keys(network, gathering):
    fewer = {name: one for name, one in gathering.released.items() if name != "bob"}
    with pytest.raises(QuorumIncompleteError):
        EpochKeys(dataclasses.replace(gathering, released=fewer), network.time.clock)


def test_equal_shares_give_no_keys(network, gathering):
    same = {name: dataclasses.replace(one, share=network.share("bob")) for name, one in gathering.released.items()}
    with pytest.raises(SharesRefusedError, match="equal"):
        EpochKeys(dataclasses.replace(gathering, released=same), network.time.clock)


def test_a_lease_ends_on_the_clock_that_runs_during_suspend(network, keys):
    assert live(keys, network, boottime=59.9)
    assert not live(keys, network, boottime=0.1)
    assert keys.ended() == ("alice", "bob", "carol")


def test_a_lease_ends_by_wall_clock_if_that_is_earlier(network, keys):
    assert live(keys, network, wall=59)
    assert not live(keys, network, wall=1)


def test_a_wall_clock_set_back_prolongs_nothing(network, keys):
    assert not live(keys, network, boottime=60, wall=-1000)


def test_one_ended_lease_ends_an_epoch_of_all_of_n(network, keys):
    later = [Lease(name, 1030.0, int(network.time.wall) + 30, 60) for name in ("alice", "carol")]
    keys.extend(later)
    network.time.boottime += 60
    assert keys.remaining() == 0
    assert keys.ended() == ("bob",)


def test_with_a_threshold_below_n_the_epoch_lives_as_long_as_enough_leases(network, gathering):
    keys = EpochKeys(dataclasses.replace(gathering, threshold=2), network.time.clock)
    keys.extend([Lease(name, 1030.0, int(network.time.wall) + 30, 60) for name in ("alice", "carol")])
    assert live(keys, network, boottime=89, wall=89)
    assert keys.ended() == ("bob",)
    assert not live(keys, network, boottime=1, wall=1)


def test_leases_are_due_from_about_half_life_on(network, keys):
    assert keys.due() == ()
    assert keys.until_half_life() == 30
    network.time.boottime += 30
    assert keys.due() == ("alice", "bob", "carol")
    assert keys.until_half_life() == 0


def test_a_retired_epoch_ends_at_its_time(network, keys):
    keys.retire(int(network.time.wall) + 10)
    assert live(keys, network, wall=9)
    assert not live(keys, network, wall=1)
    assert keys.ended() == ()


def test_what_is_forgotten_opens_nothing(keys):
    keys.client_engine()
    keys.forget()
    assert keys.psk is None
    with pytest.raises(LeaseEndedError, match="forgotten"):
        keys.client_engine()


def test_the_real_clocks_move():
    clock = Clock()
    assert clock.boottime() > 0
    assert clock.wall() > 1_700_000_000


def test_a_later_retirement_does_not_prolong_an_earlier_one(network, keys):
    keys.retire(int(network.time.wall) + 10)
    keys.retire(int(network.time.wall) + 50)
    assert keys.remaining() == 10
