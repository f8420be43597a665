"""Audit heads are collected at a renewal, and shown to the other participants' brokers."""

import httpx

from mcbn_workload.brokers.heads import collect_heads


async def collect(network):
    return await collect_heads(network.agreed, network.roster, network.connector, {}, 2)


async def test_every_brokers_head_is_collected(network):
    assert list(await collect(network)) == ["alice", "bob", "carol"]


async def test_a_broker_without_a_valid_head_is_left_out(network):
    network.brokers["alice"].signing_key = network.release_keys["bob"]
    network.brokers["bob"].reply = lambda _request: httpx.Response(404)
    assert list(await collect(network)) == ["carol"]


async def test_another_participants_head_is_left_out(network):
    alice = network.brokers["alice"]
    network.brokers["bob"].reply = lambda _request: alice._audit_head(None)
    assert list(await collect(network)) == ["alice", "carol"]


async def test_heads_are_shown_from_the_first_renewal_on(network):
    gatherer = network.gatherer()
    (agreed,) = await gatherer.find(())
    await gatherer.gather(agreed, network.names, lambda _row, _outcome: None)
    assert network.brokers["bob"].releases[-1].audit_heads == ()
    assert await gatherer.find([agreed]) == [agreed]
    await gatherer.gather(agreed, network.names, lambda _row, _outcome: None)
    shown = network.brokers["bob"].releases[-1].audit_heads
    assert [head.payload["participant"] for head in shown] == ["alice", "carol"]
