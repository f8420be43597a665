"""All brokers at once: retries, deadlines, and a table that names whoever is missing."""

import asyncio

import httpx
import pytest

from mcbn_workload.brokers.errors import QuorumIncompleteError
from mcbn_workload.brokers.quorum import ATTEMPTS_MAX, BACKOFF_MAX, Patience


@pytest.fixture
def gather(network):
    async def run(patience=None, participants=None, **changes):
        progress = []
        quorum = network.quorum(patience, **changes)
        gathering = await quorum.gather(
            participants or network.names, lambda row, outcome: progress.append((row, outcome))
        )
        return gathering, progress

    return run


async def test_three_good_brokers(network, gather):
    gathering, progress = await gather()
    gathering.require_complete()
    assert [row.participant for row in gathering.rows] == ["alice", "bob", "carol"]
    assert {name: one.share for name, one in gathering.released.items()} == {n: network.share(n) for n in network.names}
    assert len(progress) == 3


async def test_one_token_for_each_broker(network, gather):
    await gather()
    assert len({audience for audience, _ in network.attester.asked}) == 3
    assert len({nonces for _, nonces in network.attester.asked}) == 3


async def test_all_brokers_are_asked_at_the_same_time(network, gather):
    waiting = {name: asyncio.Event() for name in network.names}

    def meet(name):
        async def reply():
            waiting[name].set()
            for one in waiting.values():
                await one.wait()

        return lambda _request: reply()

    for name, broker in network.brokers.items():
        broker.reply = meet(name)
    gathering, _ = await gather()
    gathering.require_complete()


async def test_one_too_few_is_an_error_that_names_the_missing(network, gather):
    del network.brokers["bob"]
    gathering, _ = await gather()
    with pytest.raises(QuorumIncompleteError) as caught:
        gathering.require_complete()
    assert "2 of 3 needed shares were released; missing: no valid answer from bob: ConnectError" in str(caught.value)
    assert [row.outcome for row in caught.value.rows] == ["released", "no_valid_answer", "released"]
    assert caught.value.exit_code == 4


async def test_a_signed_pause_reads_differently_from_silence(network, gather):
    network.brokers["bob"].refusal = "consent_paused"
    del network.brokers["carol"]
    gathering, _ = await gather()
    with pytest.raises(QuorumIncompleteError) as caught:
        gathering.require_complete()
    assert "bob has paused its consent" in str(caught.value)
    assert "no valid answer from carol" in str(caught.value)
    assert gathering.rows[1].code == "consent_paused"
    assert gathering.rows[1].attempts == 1  # a signed no is not argued with


async def test_a_broker_that_recovers_is_asked_again(network, gather):
    answers = iter([httpx.Response(503), httpx.Response(502)])
    network.brokers["bob"].reply = lambda _request: next(answers, None)
    gathering, progress = await gather()
    gathering.require_complete()
    assert gathering.rows[1].attempts == 3
    assert [row.outcome for row, _ in progress if row.participant == "bob"] == [
        "no_valid_answer",
        "no_valid_answer",
        "released",
    ]


async def test_a_person_decides_and_new_evidence_is_shown(network, gather):
    answers = iter([httpx.Response(202, headers={"Retry-After": "3"})])
    network.brokers["bob"].reply = lambda request: next(answers, None) if request.url.path == "/v1/releases" else None
    gathering, _ = await gather()
    gathering.require_complete()
    assert network.brokers["bob"].challenges == 2
    assert network.time.slept == [3.5]


async def test_retries_are_capped(network, gather):
    network.brokers["bob"].reply = lambda _request: httpx.Response(503)
    gathering, _ = await gather(network.patience(gather_seconds=10**6))
    assert gathering.rows[1].attempts == ATTEMPTS_MAX
    assert max(network.time.slept) <= BACKOFF_MAX


async def test_a_hung_broker_does_not_outlast_the_gathering_deadline(network, gather):
    network.brokers["bob"].reply = lambda _request: asyncio.get_running_loop().create_future()
    gathering, _ = await gather(network.patience(gather_seconds=0.3), request_seconds=1000)
    assert [row.outcome for row in gathering.rows] == ["released", "no_valid_answer", "released"]
    assert "no answer before the gathering deadline" in gathering.rows[1].text


async def test_no_pause_goes_past_the_deadline(network, gather):
    network.brokers["bob"].reply = lambda _request: httpx.Response(503, headers={"Retry-After": "30"})
    gathering, _ = await gather(network.patience(gather_seconds=5))
    assert gathering.rows[1].attempts == 1
    assert network.time.slept == []


async def test_a_broker_with_another_participants_key_is_not_counted_twice(network, gather):
    """The operator points Bob's address at Alice's broker."""
    alice = network.brokers["alice"]
    network.brokers["bob"] = alice
    gathering, _ = await gather()
    assert set(gathering.released) == {"alice", "carol"}
    with pytest.raises(QuorumIncompleteError, match="no valid answer from bob"):
        gathering.require_complete()


async def test_mixed_epochs_are_never_combined(network, gather):
    network.brokers["bob"].agreed = network.agree(2)
    network.brokers["bob"].share = network.share("bob", 2)
    gathering, _ = await gather()
    assert gathering.rows[1].outcome == "mismatch"
    assert "epoch" in gathering.rows[1].text


async def test_plain_http_to_another_machine_is_not_used(network, gather):
    network.overrides["bob"] = "http://bob.example"
    gathering, _ = await gather()
    assert "plain http" in gathering.rows[1].text


async def test_the_log_says_who_and_why_and_holds_no_share(network, gather, caplog):
    caplog.set_level("DEBUG", "mcbn")
    network.brokers["bob"].refusal = "consent_paused"
    await gather()
    events = {record.event: record for record in caplog.records if hasattr(record, "event")}
    assert events["refused"].participant == "bob"
    assert events["refused"].code == "consent_paused"
    assert events["released"].lease_seconds == 60
    text = "".join(str(record.__dict__) for record in caplog.records)
    assert not any(network.share(name).reveal().hex() in text for name in network.names)
    assert "e30.e30" not in text


def test_backoff_grows_with_jitter_and_is_capped():
    low = Patience(gather_seconds=1, jitter=lambda: 0.0)
    high = Patience(gather_seconds=1, jitter=lambda: 1.0)
    assert [low.pause(n, None) for n in (1, 2, 3, 10)] == [0.25, 0.5, 1.0, 5.0]
    assert [high.pause(n, None) for n in (1, 2, 3, 10)] == [0.5, 1.0, 2.0, 10.0]
    assert low.pause(1, 30.0) == 30.0
