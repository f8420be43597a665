"""Who takes somebody else's challenge or evidence gets nothing, and the genuine owner still does."""

import asyncio
import dataclasses
import os

import httpx
import pytest

from mcbn_broker.audit.chain import AuditKind
from mcbn_protocol.binding import audience
from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.errors import SealError
from mcbn_protocol.identifiers import Role
from mcbn_protocol.messages import ReleaseRequest
from mcbn_protocol.sealing import seal_info
from tests.attacks.lab_brokers import JSON, json_answer, key_pair, new_lab
from tests.attacks.lab_replay import RELEASES, gather, nothing_but_rejections

FAMILY = "Binding and replay"


@pytest.fixture
async def lab(tmp_path):
    async with new_lab(tmp_path, "alice") as lab:
        yield lab


@pytest.fixture
async def two(tmp_path):
    async with new_lab(tmp_path, "alice", "bob") as lab:
        yield lab


# -- the recipient key and the evidence


async def test_swapped_recipient_key(lab):
    """Frank puts his own recipient key into a genuine request, to have the share sealed to himself.

    Known as: relayed evidence (RFC 9334 section 10; CVE-2026-33697, a relay attack on attested TLS).
    """
    workload = lab.workload()
    genuine = workload.request(await workload.challenge())
    swapped = dataclasses.replace(genuine, recipient_key=key_pair().public_bytes)
    answer = await workload.send(swapped)
    lab.refused(answer, "token_not_authentic", check="token.nonces", signed_over=swapped)
    nothing_but_rejections(lab)
    assert await lab.alice.rejected() == {"token_not_authentic/token.nonces": 1}
    lab.released(await workload.send(genuine), workload)


async def test_evidence_relayed_with_franks_own_recipient_key(lab):
    """Frank stands between a genuine workload and Alice, and sends the workload's evidence on with a key of his own.

    Known as: relayed evidence (RFC 9334 section 10; CVE-2026-33697, a relay attack on attested TLS).
    """
    frank = key_pair()
    answers: list[tuple[ReleaseRequest, httpx.Response]] = []

    async def relay(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != RELEASES:
            return None
        his = dataclasses.replace(ReleaseRequest.parse(request.content), recipient_key=frank.public_bytes)
        answer = await lab.road.deliver(httpx.Request("POST", request.url, headers=JSON, content=his.to_bytes()))
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
    """Frank asks Alice for a challenge, lets a genuine workload answer it, and keeps the release for himself.

    Known as: relayed evidence (RFC 9334 section 10; CVE-2026-33697, a relay attack on attested TLS).
    """
    workload, frank = lab.workload(), lab.workload()
    genuine = workload.request(await frank.challenge())
    answer = await frank.send(genuine)
    release = lab.released(answer, workload)
    assert lab.alice.share().reveal() not in answer.content
    with pytest.raises(SealError):
        frank.key.open(release.sealed_share, info=seal_info(release.binding, release.epoch, release.share_index))


async def test_token_for_another_brokers_audience(two):
    """Bob's broker forwards a token that was made for him to Alice, to get Alice's share.

    Known as: audience unchecked (RFC 8725 sections 2.7 and 3.9).
    """
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
    """Frank has one token made for two requests at once, or for half of one.

    Known as: replayed evidence (RFC 9334 section 10.2).
    """
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
    """Frank keeps a token for later, or has it made for a time to come.

    Known as: replayed evidence (RFC 9334 section 10.2).
    """
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
    """Nobody attacks: a challenge is served until its last second."""
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
    """Frank sends a genuine request a second time, and then with fresh evidence of the same workload.

    Known as: replayed evidence (RFC 9334 section 10.2).
    """
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


def _badly_signed(request: ReleaseRequest) -> ReleaseRequest:
    signed, _, signature = request.unverified_token.rpartition(".")
    flipped = ("A" if signature[0] != "A" else "B") + signature[1:]
    return dataclasses.replace(request, unverified_token=f"{signed}.{flipped}")
