"""Who answers a workload with what was said to another, or at another time, makes it believe nothing."""

import json

import httpx
import pytest

from mcbn_broker.audit.chain import AuditKind
from mcbn_protocol.messages import Release, ReleaseRequest
from mcbn_workload.brokers.quorum import Gathering
from tests.attacks.lab_brokers import JSON, LEASE, Lab, json_answer, new_lab
from tests.attacks.lab_replay import CHALLENGES, RELEASES, gather, gather_recording

FAMILY = "Binding and replay"


@pytest.fixture
async def lab(tmp_path):
    async with new_lab(tmp_path, "alice") as lab:
        yield lab


@pytest.fixture
async def two(tmp_path):
    async with new_lab(tmp_path, "alice", "bob") as lab:
        yield lab


async def test_release_replayed_to_another_workload(lab):
    """Frank answers one workload with the release that another one got, to make two VMs share what only one may."""
    first, second = await _intercept_release(lab), lab.workload(number=2)

    async def replay(request: httpx.Request) -> httpx.Response | None:
        return json_answer(first) if request.url.path == RELEASES else None

    lab.road.meddle = replay
    gathering = await gather(lab, instance_id=second.machine.instance_id)
    _nobody_is_blamed(gathering, "a signed release of another request")
    lab.road.meddle = None
    await second.is_served()


async def test_old_release_replayed_to_the_same_workload(lab):
    """Frank answers the renewal of a lease with the release of the first time, to prolong what Alice has paused."""
    first = await _intercept_release(lab)
    lab.alice.store.pause()
    lab.time.advance(30)

    async def replay(request: httpx.Request) -> httpx.Response | None:
        return json_answer(first) if request.url.path == RELEASES else None

    lab.road.meddle = replay
    _nobody_is_blamed(await gather(lab), "a signed release of another request")
    lab.road.meddle = None
    (row,) = (await gather(lab)).rows
    assert (row.outcome, row.code) == ("refused", "consent_paused")
    lab.alice.store.allow()
    assert (await gather(lab)).released.keys() == {"alice"}


async def test_release_held_back_until_the_lease_is_over(lab):
    """Frank lets a release arrive only when its lease has ended, so that the workload counts it from then."""

    async def hold_back(request: httpx.Request) -> httpx.Response | None:
        answer = await lab.road.deliver(request)
        if request.url.path == RELEASES:
            lab.time.advance(LEASE)
        return answer

    lab.road.meddle = hold_back
    gathering = await gather(lab)
    assert not gathering.released
    assert "its lease is not of the present" in gathering.rows[0].text
    lab.road.meddle = None
    assert (await gather(lab)).released.keys() == {"alice"}


async def test_challenge_and_release_replayed_together(lab):
    """Frank replays the whole old conversation, challenge and release, to a workload that asks anew."""
    told: dict[str, bytes] = {}
    await gather_recording(lab, told)

    async def replay(request: httpx.Request) -> httpx.Response | None:
        return json_answer(told[request.url.path])

    lab.road.meddle = replay
    _nobody_is_blamed(await gather(lab), "a signed release of another request")
    assert len(lab.alice.records(AuditKind.RELEASE)) == 1
    lab.road.meddle = None
    assert (await gather(lab)).released.keys() == {"alice"}


@pytest.mark.parametrize("with_challenge", [False, True], ids=["refusal", "challenge and refusal"])
async def test_old_refusal_replayed(lab, with_challenge):
    """Frank answers with a refusal that Alice signed while she paused, to make it look as if she still did."""
    lab.alice.store.pause()
    told: dict[str, bytes] = {}
    await gather_recording(lab, told)
    lab.alice.store.allow()

    async def replay(request: httpx.Request) -> httpx.Response | None:
        if request.url.path == CHALLENGES and not with_challenge:
            return None
        return _problem_or_json(told[request.url.path])

    lab.road.meddle = replay
    _nobody_is_blamed(await gather(lab), "a signed refusal of another request")
    lab.road.meddle = None
    assert (await gather(lab)).released.keys() == {"alice"}


async def test_refusal_that_frank_provoked_with_the_workloads_challenge(lab):
    """Frank uses the workload's challenge with a key of his own while Alice pauses, and hands her refusal on."""
    frank = lab.workload()

    async def provoke(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != RELEASES:
            return None
        asked = frank.request(ReleaseRequest.parse(request.content).challenge)
        answer = await lab.road.deliver(httpx.Request("POST", request.url, headers=JSON, content=asked.to_bytes()))
        return _problem_or_json(await answer.aread())

    lab.alice.store.pause()
    lab.road.meddle = provoke
    _nobody_is_blamed(await gather(lab), "a signed refusal of another request")
    lab.road.meddle = None
    lab.alice.store.allow()
    assert (await gather(lab)).released.keys() == {"alice"}


async def test_release_of_bob_replayed_as_that_of_alice(two):
    """Frank answers Alice's workload with a release that Bob signed for the same workload."""
    told: dict[str, bytes] = {}
    await gather_recording(two, told, "bob")

    async def replay(request: httpx.Request) -> httpx.Response | None:
        return json_answer(told[RELEASES]) if request.url.path == RELEASES else None

    two.road.meddle = replay
    (row,) = (await gather(two)).rows
    assert (row.participant, row.outcome) == ("alice", "no_valid_answer")
    two.road.meddle = None
    assert (await gather(two)).released.keys() == {"alice"}


def _problem_or_json(body: bytes) -> httpx.Response:
    """An answer with the status and media type that belong to a recorded body."""
    members = json.loads(body)
    if "code" not in members:
        return json_answer(body)
    headers = {"content-type": "application/problem+json"}
    return httpx.Response(members["status"], headers=headers, stream=httpx.ByteStream(body))


async def _intercept_release(lab: Lab) -> bytes:
    told: dict[str, bytes] = {}
    await gather_recording(lab, told)
    Release.parse(told[RELEASES], participant="alice", roster=lab.roster)
    return told[RELEASES]


def _nobody_is_blamed(gathering: Gathering, reason: str) -> None:
    """Check that nothing was released, and that it reads as no valid answer instead of a participant's fault."""
    (row,) = gathering.rows
    assert not gathering.released
    assert row.outcome == "no_valid_answer"
    assert row.text == f"no valid answer from alice: {reason}"
