"""Who takes somebody else's challenge, evidence, release or manifest gets nothing, and the genuine owner still does."""

import asyncio
import dataclasses
import json
import os
from typing import Any

import httpx
import pytest

from mcbn_broker.audit.chain import AuditKind
from mcbn_broker.errors import CeremonyError
from mcbn_protocol.binding import audience
from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.errors import MalformedError, SealError
from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import AgreedManifest, manifest_hash
from mcbn_protocol.messages import Release, ReleaseRequest
from mcbn_protocol.sealing import seal_info
from mcbn_protocol.signatures import Envelope
from mcbn_workload.brokers.quorum import Gathering
from tests.attacks.lab_brokers import LEASE, Lab, json_answer, key_pair, new_lab

CHALLENGES = "/v1/challenges"
RELEASES = "/v1/releases"


@pytest.fixture
async def lab(tmp_path):
    async with new_lab(tmp_path, "alice") as lab:
        yield lab


@pytest.fixture
async def two(tmp_path):
    async with new_lab(tmp_path, "alice", "bob") as lab:
        yield lab


async def gather(lab: Lab, **machine: Any) -> Gathering:
    """Let the shipped workload ask Alice alone."""
    gatherer = lab.gatherer(**machine)
    return await gatherer.gather(lab.agreed, ["alice"], lambda _row, _outcome: None)


def nothing_but_rejections(lab: Lab) -> None:
    """Check that the audit has neither a release nor a decision: what failed before the signature is only counted."""
    assert not lab.alice.records(AuditKind.RELEASE)
    assert not lab.alice.records(AuditKind.REFUSAL)


# -- the recipient key and the evidence


async def test_swapped_recipient_key(lab):
    """Frank puts his own recipient key into a genuine request, to have the share sealed to himself."""
    workload = lab.workload()
    genuine = workload.request(await workload.challenge())
    swapped = dataclasses.replace(genuine, recipient_key=key_pair().public_bytes)
    answer = await workload.send(swapped)
    lab.refused(answer, "token_not_authentic", check="token.nonces", signed_over=swapped)
    nothing_but_rejections(lab)
    assert await lab.alice.rejected() == {"token_not_authentic/token.nonces": 1}
    lab.released(await workload.send(genuine), workload)


async def test_evidence_relayed_with_franks_own_recipient_key(lab):
    """Frank stands between a genuine workload and Alice, and sends the workload's evidence on with a key of his own."""
    frank = key_pair()
    answers: list[tuple[ReleaseRequest, httpx.Response]] = []

    async def relay(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != RELEASES:
            return None
        his = dataclasses.replace(ReleaseRequest.parse(request.content), recipient_key=frank.public_bytes)
        answer = await lab.road.deliver(httpx.Request("POST", request.url, headers=_JSON, content=his.to_bytes()))
        await answer.aread()
        answers.append((his, answer))
        return json_answer(answer.content, answer.status_code)

    lab.road.meddle = relay
    (row,) = (await gather(lab)).rows
    assert row.outcome == "no_valid_answer"  # and Alice is not blamed
    ((his, answer),) = answers
    lab.refused(answer, "token_not_authentic", check="token.nonces", signed_over=his)
    nothing_but_rejections(lab)
    lab.road.meddle = None
    assert (await gather(lab)).released.keys() == {"alice"}


async def test_evidence_relayed_unchanged_gives_frank_nothing_that_opens(lab):
    """Frank asks Alice for a challenge, lets a genuine workload answer it, and keeps the release for himself."""
    workload, frank = lab.workload(), lab.workload()
    genuine = workload.request(await frank.challenge())
    answer = await frank.send(genuine)
    release = lab.released(answer, workload)
    assert lab.alice.share().reveal() not in answer.content
    with pytest.raises(SealError):
        frank.key.open(release.sealed_share, info=seal_info(release.binding, release.epoch, release.share_index))


async def test_token_for_another_brokers_audience(two):
    """Bob's broker forwards a token that was made for him to Alice, to get Alice's share."""
    workload = two.workload()
    challenge = await workload.challenge()
    request = workload.request(challenge, to="bob")
    answer = await workload.send(request)
    two.refused(answer, "token_not_authentic", check="token.audience", signed_over=request)
    nothing_but_rejections(two)
    two.released(await workload.send(workload.request(challenge)), workload)


async def test_request_meant_for_bob_sent_to_alice(two):
    """Frank sends a whole request that was made for Bob, challenge and all, to Alice."""
    workload = two.workload()
    request = workload.request(await workload.challenge("bob"), "bob")
    two.refused(await workload.send(request, "alice"), "challenge_not_issued", signed_over=None)
    nothing_but_rejections(two)
    two.released(await workload.send(request, "bob"), workload, "bob")


async def test_evidence_with_more_or_fewer_nonces(lab):
    """Frank has one token made for two requests at once, or for half of one."""
    workload = lab.workload()
    challenge = await workload.challenge()
    request = workload.request(challenge)
    binding = b64u_encode(request.binding(lab.roster.hash, "alice"))
    meant_for = audience(lab.roster.hash, "alice")
    for nonces in ([challenge, binding, "C" * 43], [challenge], [binding], [challenge, challenge], []):
        evidence = lab.token(workload.machine, meant_for, nonces)
        forged = dataclasses.replace(request, unverified_token=evidence)
        answer = await workload.send(forged)
        lab.refused(answer, "token_not_authentic", check="token.nonces", signed_over=forged)
    nothing_but_rejections(lab)
    in_another_order = lab.token(workload.machine, meant_for, [binding, challenge])
    lab.released(await workload.send(dataclasses.replace(request, unverified_token=in_another_order)), workload)


@pytest.mark.parametrize(
    ("age", "check"),
    [(301, "token.age"), (4000, "token.expired"), (-61, "token.not_yet_valid")],
    ids=["older than five minutes", "expired", "from the future"],
)
async def test_token_of_another_time(lab, age, check):
    """Frank keeps a token for later, or has it made for a time to come."""
    workload = lab.workload()
    challenge = await workload.challenge()
    request = workload.request(challenge, age=age)
    answer = await workload.send(request)
    lab.refused(answer, "token_not_authentic", check=check, signed_over=request)
    nothing_but_rejections(lab)
    lab.released(await workload.send(workload.request(challenge, age=300)), workload)


# -- challenges


async def test_challenge_from_another_broker(two):
    """Frank gives Bob's challenge to Alice, in a request and with a token that are otherwise right for Alice."""
    workload = two.workload()
    challenge = await workload.challenge("bob")
    two.refused(await workload.send(workload.request(challenge)), "challenge_not_issued", signed_over=None)
    nothing_but_rejections(two)
    assert await two.alice.rejected() == {"challenge_not_issued": 1}
    await workload.is_served("alice")
    await workload.is_served("bob")


async def test_challenge_that_was_never_issued(lab):
    """Frank makes challenges of the right shape himself: all random, and a genuine one with one character changed."""
    workload = lab.workload()
    genuine = await workload.challenge()
    altered = genuine[:20] + ("A" if genuine[20] != "A" else "B") + genuine[21:]
    for challenge in (b64u_encode(os.urandom(41)), altered):
        answer = await workload.send(workload.request(challenge))
        lab.refused(answer, "challenge_not_issued", signed_over=None)
    nothing_but_rejections(lab)
    lab.released(await workload.send(workload.request(genuine)), workload)


@pytest.mark.parametrize("late", [120, 121, 100_000 - 1])
async def test_expired_challenge(lab, late):
    """Frank holds a challenge back until it has expired, and then uses it with fresh evidence."""
    workload = lab.workload()
    challenge = await workload.challenge()
    lab.time.advance(late)
    request = workload.request(challenge)
    lab.refused(await workload.send(request), "challenge_expired", signed_over=request)
    nothing_but_rejections(lab)
    await workload.is_served()


async def test_challenge_in_its_last_second(lab):
    """The control of an expired challenge: a second earlier it is served."""
    workload = lab.workload()
    challenge = await workload.challenge()
    lab.time.advance(119)
    lab.released(await workload.send(workload.request(challenge)), workload)


async def test_expired_challenge_after_a_step_back_of_the_brokers_clock(lab):
    """Frank replays a used challenge after somebody set the broker's clock back, when it looks unexpired again."""
    workload = lab.workload()
    request = workload.request(await workload.challenge())
    lab.released(await workload.send(request), workload)
    lab.time.advance(600)
    await lab.alice.service.keep_house()
    lab.time.wall -= 600
    lab.refused(await workload.send(request), "challenge_used", signed_over=request)
    assert len(lab.alice.records(AuditKind.RELEASE)) == 1


async def test_challenge_used_twice(lab):
    """Frank sends a genuine request a second time, and then with fresh evidence of the same workload."""
    workload = lab.workload()
    request = workload.request(await workload.challenge())
    lab.released(await workload.send(request), workload)
    again = [request, workload.request(request.challenge)]
    for one in again:
        lab.refused(await workload.send(one), "challenge_used", signed_over=one)
    assert len(lab.alice.records(AuditKind.RELEASE)) == 1
    refusals = lab.alice.records(AuditKind.REFUSAL)
    assert [(one["code"], one["challenge"]) for one in refusals] == [("challenge_used", request.challenge)] * 2


async def test_challenge_used_200_times_in_parallel(lab):
    """Frank sends one genuine request 200 times at once, hoping that two of them see the challenge unused."""
    workload = lab.workload()
    request = workload.request(await workload.challenge())
    answers = await asyncio.gather(*(workload.send(request) for _ in range(200)))
    released = [one for one in answers if one.status_code == httpx.codes.OK]
    assert len(released) == 1
    lab.released(released[0], workload)
    for answer in answers:
        if answer is not released[0]:
            lab.refused(answer, "challenge_used", signed_over=request)
    assert len(lab.alice.records(AuditKind.RELEASE)) == 1
    recorded = lab.alice.records(AuditKind.REFUSAL)
    assert {one["code"] for one in recorded} == {"challenge_used"}
    rejected = await lab.alice.rejected()  # what goes beyond the budget of records is counted, and nothing is lost
    assert len(recorded) + rejected.get("beyond_record_budget/challenge_used", 0) == 199


async def test_challenge_used_after_a_restart(lab):
    """Frank waits until Alice's broker restarts, and then replays a used challenge that has not expired."""
    workload = lab.workload()
    request = workload.request(await workload.challenge())
    lab.released(await workload.send(request), workload)
    await lab.alice.stop()
    lab.alice.start()
    lab.refused(await workload.send(request), "challenge_used", signed_over=request)
    await workload.is_served()


async def test_challenge_issued_for_another_role(lab):
    """Frank asks for a challenge as a client and uses it as a server, with a server's genuine evidence."""
    server, client = lab.workload(Role.SERVER), lab.workload(Role.CLIENT)
    request = server.request(await client.challenge())
    lab.refused(await server.send(request), "challenge_not_issued", signed_over=None)
    nothing_but_rejections(lab)
    await server.is_served()


async def test_challenge_issued_for_another_manifest(lab):
    """Frank asks for a challenge under the old manifest during the overlap, and uses it under the new one."""
    workload = lab.workload()
    first = lab.agreed
    lab.open_epoch(first, overlap_seconds=600)
    challenge = await workload.challenge(manifest_hash=first.hash)
    lab.refused(await workload.send(workload.request(challenge)), "challenge_not_issued", signed_over=None)
    nothing_but_rejections(lab)
    assert (await workload.is_served()).epoch == 2


# -- a 401 spends nothing, an answer after a good signature spends


async def test_a_refusal_before_the_signature_spends_nothing(lab):
    """Frank, who sees a workload's challenge, burns it with bad evidence so that the workload is not served."""
    workload, frank = lab.workload(), lab.workload(image_digest="sha256:" + "f0" * 32)
    challenge = await workload.challenge()
    forged = [
        frank.request(challenge, age=301),
        frank.request(challenge, to="bob"),
        dataclasses.replace(frank.request(challenge), unverified_token="e30.e30.e30"),
        _badly_signed(frank.request(challenge)),
    ]
    for request in forged:
        answer = await frank.send(request)
        assert answer.status_code == httpx.codes.UNAUTHORIZED
        lab.holds_no_share(answer.content)
    nothing_but_rejections(lab)
    assert sum((await lab.alice.rejected()).values()) == len(forged)
    lab.released(await workload.send(workload.request(challenge)), workload)


async def test_a_refusal_after_the_signature_spends_the_challenge(lab):
    """Frank tries image after image with one challenge, to learn what Alice's broker admits."""
    frank, workload = lab.workload(image_digest="sha256:" + "f0" * 32), lab.workload()
    challenge = await workload.challenge()
    request = frank.request(challenge)
    lab.refused(await frank.send(request), "appraisal_failed", check="image_digest", signed_over=request)
    second = workload.request(challenge)
    lab.refused(await workload.send(second), "challenge_used", signed_over=second)
    assert not lab.alice.records(AuditKind.RELEASE)
    await workload.is_served()


# -- roles


async def test_server_image_asking_for_the_client_role(lab):
    """Frank starts the server image and lets it ask as a client, to hold the keys of both roles in one VM."""
    disguised = dataclasses.replace(lab.workload(Role.SERVER), role=Role.CLIENT)
    request = disguised.request(await disguised.challenge())
    lab.refused(await disguised.send(request), "appraisal_failed", check="image_digest", signed_over=request)
    (record,) = lab.alice.records(AuditKind.REFUSAL)
    assert record["role"] == "client"
    assert record["image_digest"] == disguised.machine.image_digest
    assert {one["name"] for one in record["failed_checks"]} >= {"image_digest", "args"}
    assert not lab.alice.records(AuditKind.RELEASE)
    await lab.workload(Role.SERVER).is_served()
    await lab.workload(Role.CLIENT).is_served()


# -- manifests


async def test_old_manifest_after_a_new_one(lab):
    """Frank starts a workload of a removed manifest, and offers that manifest to Alice's broker again."""
    old, workload = lab.agreed, lab.workload()
    waiting = workload.request(await workload.challenge())  # under the old manifest, while it was the current one
    lab.open_epoch(old)
    _offer_again(lab, old)
    lab.refused(await workload.ask_challenge(manifest_hash=old.hash), "manifest_not_accepted", signed_over=None)
    lab.refused(await workload.send(waiting), "manifest_not_accepted", signed_over=waiting)
    nothing_but_rejections(lab)
    assert (await workload.is_served()).epoch == 2


async def test_old_manifest_after_a_new_one_and_a_restart(lab):
    """Frank waits for a restart of Alice's broker, and then asks under the old manifest."""
    old, workload = lab.agreed, lab.workload()
    waiting = workload.request(await workload.challenge())
    lab.open_epoch(old)
    await lab.alice.stop()
    lab.alice.start()
    _offer_again(lab, old)
    lab.refused(await workload.ask_challenge(manifest_hash=old.hash), "manifest_not_accepted", signed_over=None)
    lab.refused(await workload.send(waiting), "manifest_not_accepted", signed_over=waiting)
    nothing_but_rejections(lab)
    assert (await workload.is_served()).epoch == 2


async def test_old_manifest_after_restoring_an_older_database(lab):
    """Somebody restores Alice's database of before the new manifest, and she even allows: the old one stays dead."""
    old, workload = lab.agreed, lab.workload()
    waiting = workload.request(await workload.challenge())
    await lab.alice.stop()
    backup = lab.alice.copy_database()
    lab.alice.start()
    lab.open_epoch(old)
    await lab.alice.stop()
    lab.alice.restore_database(backup)
    lab.alice.start()
    assert lab.alice.store.opened.new_incarnation is not None
    assert lab.alice.store.consent().state.value == "paused"
    lab.alice.store.allow("the participant looked and confirmed")
    lab.alice.store.accept_manifest(old.bundle)
    lab.refused(await workload.ask_challenge(manifest_hash=old.hash), "manifest_not_accepted", signed_over=None)
    lab.refused(await workload.send(waiting), "challenge_not_issued", signed_over=None)  # the incarnation has ended
    nothing_but_rejections(lab)
    third = lab.manifest(lab.agreed, valid_from=lab.time.now())
    lab.alice.store.accept_manifest(lab.bundle(third))
    lab.agreed = AgreedManifest.parse(lab.bundle(third), lab.roster)
    assert (await workload.is_served()).epoch == 3


async def test_restored_database_releases_nothing_until_the_participant_confirms(lab):
    """Frank restores an older database of the same epoch, in which used challenges look unused."""
    workload = lab.workload()
    request = workload.request(await workload.challenge())
    await lab.alice.stop()
    backup = lab.alice.copy_database()
    lab.alice.start()
    lab.released(await workload.send(request), workload)
    await lab.alice.stop()
    lab.alice.restore_database(backup)
    lab.alice.start()
    lab.refused(await workload.send(request), "challenge_not_issued", signed_over=None)
    fresh = workload.request(await workload.challenge())
    lab.refused(await workload.send(fresh), "consent_paused", signed_over=fresh)
    assert lab.alice.records(AuditKind.INCARNATION)[-1]["reason"]
    assert not lab.alice.records(AuditKind.RELEASE)
    lab.alice.store.allow("confirmed")
    await workload.is_served()


async def test_reordered_json_is_the_same_manifest(lab):
    """Frank shuffles the members of a bundle: the hash stays, but bytes that are not canonical are not taken."""
    payload = lab.agreed.manifest.to_payload()
    shuffled = dict(reversed(payload.items()))
    assert json.dumps(shuffled) != json.dumps(payload)
    assert manifest_hash(Envelope(shuffled, []).payload_bytes) == lab.agreed.hash

    members = json.loads(lab.agreed.bundle)
    others = [
        json.dumps({"signatures": members["signatures"], "payload": members["payload"]}, separators=(",", ":")),
        json.dumps(members, separators=(",", ":")).replace('"epoch":1', '"epoch": 1'),
        json.dumps(members, separators=(",", ":")) + "\n",
    ]
    second = lab.bundle(lab.manifest(lab.agreed))
    for data in (one.encode() for one in others):
        with pytest.raises(MalformedError, match="canonical"):
            AgreedManifest.parse(data, lab.roster)
    spaced = json.dumps(json.loads(second), sort_keys=True).encode()
    with pytest.raises(MalformedError, match="canonical"):
        lab.alice.store.accept_manifest(spaced)
    assert [one.agreed.hash for one in lab.alice.store.manifests()] == [lab.agreed.hash]
    lab.alice.store.accept_manifest(second)


# -- answers


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
        answer = await lab.road.deliver(httpx.Request("POST", request.url, headers=_JSON, content=asked.to_bytes()))
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


def _offer_again(lab: Lab, old: AgreedManifest) -> None:
    """Check that neither the old manifest nor another one of its epoch changes what is accepted."""
    before = [one.agreed.hash for one in lab.alice.store.manifests()]
    lab.alice.store.accept_manifest(old.bundle)
    with pytest.raises(CeremonyError, match="accepted already"):
        lab.alice.store.accept_manifest(lab.bundle(dataclasses.replace(old.manifest, lease_seconds=30)))
    assert [one.agreed.hash for one in lab.alice.store.manifests()] == before
    assert len(lab.alice.records(AuditKind.MANIFEST_ACCEPTED)) == len(before)


_JSON = {"content-type": "application/json"}


def _badly_signed(request: ReleaseRequest) -> ReleaseRequest:
    signed, _, signature = request.unverified_token.rpartition(".")
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    return dataclasses.replace(request, unverified_token=f"{signed}.{flipped}")


def _problem_or_json(body: bytes) -> httpx.Response:
    """An answer with the status and media type that belong to a recorded body."""
    members = json.loads(body)
    if "code" not in members:
        return json_answer(body)
    headers = {"content-type": "application/problem+json"}
    return httpx.Response(members["status"], headers=headers, stream=httpx.ByteStream(body))


async def gather_recording(lab: Lab, told: dict[str, bytes], name: str = "alice") -> None:
    """Let a genuine workload ask, and keep a copy of what it is told, by path."""

    async def record(request: httpx.Request) -> httpx.Response | None:
        answer = await lab.road.deliver(request)
        told[request.url.path] = await answer.aread()
        return httpx.Response(
            answer.status_code, headers=answer.headers, stream=httpx.ByteStream(told[request.url.path])
        )

    lab.road.meddle = record
    await lab.gatherer().gather(lab.agreed, [name], lambda _row, _outcome: None)
    lab.road.meddle = None


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
