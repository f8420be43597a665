"""One broker as an adversary: what it may send, and what the workload makes of it."""

import asyncio
import dataclasses

import httpx
import pytest

from mcbn_protocol.binding import audience
from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.identifiers import Role
from mcbn_protocol.messages import Challenge, ReleaseRequest
from mcbn_protocol.sealing import Kem, RecipientKey, seal, seal_info
from mcbn_protocol.shares import Share
from mcbn_protocol.signatures import Envelope
from mcbn_workload.attester import AttesterError
from mcbn_workload.brokers.client import BrokerClient
from mcbn_workload.brokers.http import RETRY_AFTER_MAX
from mcbn_workload.brokers.outcomes import Mismatch, NoToken, NoValidAnswer, Pending, Refused, Released


@pytest.fixture
def attempt(network):
    async def run(**changes):
        terms = network.terms(**changes)
        address = network.agreed.manifest.brokers["bob"]
        async with network.connector.client(address, insecure_http=False) as http:
            return await BrokerClient("bob", http, terms).attempt()

    return run


@pytest.fixture
def bob(network):
    return network.brokers["bob"]


async def test_a_good_broker_releases_its_share(network, attempt, bob):
    outcome = await attempt()
    assert isinstance(outcome, Released)
    assert outcome.share == network.share("bob")
    assert (outcome.lease.participant, outcome.lease.seconds) == ("bob", 60)
    (asked,) = bob.releases
    assert network.attester.asked[0][0] == audience(network.roster.hash, "bob")
    assert network.attester.asked[0][1][0] == asked.challenge
    assert "bob released its share" in outcome.text("bob")
    assert "share" not in repr(outcome.share.reveal())
    assert repr(outcome.share) == "<Share: 32 bytes>"


async def test_the_manifests_preferred_kem_is_used(network, attempt, bob):
    network.agreed = network.open_epoch(1, kems=(Kem.MLKEM768_X25519, Kem.X25519))
    assert isinstance(await attempt(agreed=network.agreed), Released)
    assert bob.releases[0].kem is Kem.MLKEM768_X25519


async def test_each_attempt_has_its_own_recipient_key(network, attempt, bob):
    keys = iter([bytes([1]) * 31 + b"x", bytes([2]) * 31 + b"y"])
    for _ in range(2):
        assert isinstance(await attempt(random=lambda _count: next(keys)), Released)
    assert bob.releases[0].recipient_key != bob.releases[1].recipient_key


async def test_the_lease_starts_before_the_challenge_was_asked_for(network, attempt, bob):
    def slow(_request):
        network.time.boottime += 10

    bob.reply = slow
    outcome = await attempt()
    assert outcome.lease.started == 1000.0
    assert outcome.lease.remaining(network.time.clock) == 40


async def test_a_release_signed_by_another_key_is_no_valid_answer(network, attempt, bob):
    bob.signing_key = network.release_keys["alice"]
    outcome = await attempt()
    assert isinstance(outcome, NoValidAnswer)
    assert "signature" in outcome.reason


async def test_a_wrong_share_is_the_participants_own_doing(network, attempt, bob):
    bob.share = network.share("alice")
    outcome = await attempt()
    assert isinstance(outcome, Mismatch)
    assert "does not match its commitment" in outcome.reason
    assert outcome.text("bob").startswith("bob signed a wrong release")


async def test_a_share_sealed_to_another_key_is_named(network, attempt, bob):
    other = network.brokers["alice"]

    def change(release):
        asked = bob.releases[-1]
        info = seal_info(bytes(32), 1, 2)
        return dataclasses.replace(
            release, sealed_share=seal(asked.kem, asked.recipient_key, info=info, share=other.share)
        )

    bob.change_release = change
    outcome = await attempt()
    assert isinstance(outcome, Mismatch)
    assert "does not open" in outcome.reason


async def test_a_degenerate_share_is_named(network, attempt, bob):
    zero = object.__new__(Share)
    zero._value = bytes(32)
    bob.share = zero
    outcome = await attempt()
    assert isinstance(outcome, Mismatch)
    assert "not drawn at random" in outcome.reason


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("share_index", 1, "share index 1 instead of 2"),
        ("epoch", 2, "epoch"),
        ("manifest_hash", bytes(32), "manifest hash"),
        ("role", Role.CLIENT, "role"),
        ("participant", "carol", "participant"),
        ("lease_seconds", 61, "lease longer"),
        ("roster_hash", bytes(32), None),
    ],
)
async def test_a_field_that_differs_from_what_was_asked_is_refused(attempt, bob, field, value, said):
    def change(release):
        return dataclasses.replace(release, **{field: value})

    bob.change_release = change
    if field in {"participant", "roster_hash"}:  # the envelope's own signature then names another context
        assert isinstance(await attempt(), NoValidAnswer | Mismatch)
        return
    outcome = await attempt()
    assert isinstance(outcome, Mismatch)
    assert said in outcome.reason


async def test_a_release_of_another_request_blames_nobody(attempt, bob):
    """Anybody on the road can replay an older release: it has another binding."""
    bob.change_release = lambda release: dataclasses.replace(release, binding=bytes(32))
    outcome = await attempt()
    assert isinstance(outcome, NoValidAnswer)
    assert "another request" in outcome.reason


@pytest.mark.parametrize("seconds", [-61, 301])
async def test_a_lease_that_is_not_of_the_present_is_refused(attempt, bob, seconds):
    bob.change_release = lambda release: dataclasses.replace(release, issued_at=release.issued_at + seconds)
    outcome = await attempt()
    assert isinstance(outcome, NoValidAnswer)
    assert "clocks differ" in outcome.reason


async def test_a_signed_refusal_over_our_challenge_names_the_participant(attempt, bob):
    bob.refusal = "consent_paused"
    outcome = await attempt()
    assert isinstance(outcome, Refused)
    assert outcome.final
    assert "bob has paused its consent (signed refusal consent_paused" in outcome.text("bob")


async def test_a_transient_refusal_may_be_asked_again(attempt, bob):
    bob.refusal = "instances_exceeded"
    assert not (await attempt()).final


async def test_a_refusal_signed_by_another_key_blames_nobody(network, attempt, bob):
    bob.refusal, bob.refusal_key = "consent_paused", network.release_keys["carol"]
    assert isinstance(await attempt(), NoValidAnswer)


@pytest.mark.parametrize(
    "change",
    [
        {"challenge": "A" * 55},
        {"binding": bytes(32)},
        {"manifest_hash": bytes(32)},
        {"role": Role.CLIENT},
        {"participant": "carol"},
        {"roster_hash": bytes(32)},
    ],
)
async def test_a_refusal_of_another_request_blames_nobody(attempt, bob, change):
    bob.refusal = "consent_paused"
    bob.change_refusal = lambda refusal: dataclasses.replace(refusal, **change)
    assert isinstance(await attempt(), NoValidAnswer)


async def test_a_refusal_that_the_operator_asked_for_blames_nobody(network, attempt, bob):
    """He relays Bob's challenge, and with it the refusal that a worthless token of his own got him."""
    challenge = b64u_encode(bytes(41))
    own = RecipientKey.from_seed(Kem.X25519, bytes(32)).public_bytes
    bob.refusal = "token_not_authentic"

    def stand_between(request):
        if request.url.path == "/v1/challenges":
            return bob.json(Challenge(challenge, 1).to_bytes())
        asked = dataclasses.replace(ReleaseRequest.parse(request.content), recipient_key=own)
        return bob.refuse(asked)

    bob.reply = stand_between
    outcome = await attempt()
    assert isinstance(outcome, NoValidAnswer)
    assert "another request" in outcome.reason
    assert "refuses" not in outcome.text("bob")


async def test_an_unsigned_refusal_blames_nobody(attempt, bob):
    bob.reply = lambda _request: bob.problem("consent_paused")
    outcome = await attempt()
    assert isinstance(outcome, NoValidAnswer)
    assert outcome.final
    assert outcome.text("bob").startswith("no valid answer from bob: unsigned refusal consent_paused")


async def test_an_unsigned_refusal_of_the_release_blames_nobody(attempt, bob):
    bob.reply = lambda request: bob.problem("token_not_authentic") if request.url.path == "/v1/releases" else None
    assert isinstance(await attempt(), NoValidAnswer)


async def test_a_status_that_contradicts_the_body_is_refused(attempt, bob):
    def reply(_request):
        response = bob.problem("consent_paused")
        return httpx.Response(409, content=response.content, headers=response.headers)

    bob.reply = reply
    outcome = await attempt()
    assert isinstance(outcome, NoValidAnswer)
    assert "status 409" in outcome.reason


async def test_an_undecided_broker_is_asked_again_later(attempt, bob):
    bob.reply = lambda request: (
        httpx.Response(202, headers={"Retry-After": "7"}) if request.url.path == "/v1/releases" else None
    )
    outcome = await attempt()
    assert isinstance(outcome, Pending)
    assert (outcome.final, outcome.retry_after) == (False, 7)
    assert outcome.text("bob") == "no valid answer from bob yet (an unsigned 202: a person may be deciding)"


@pytest.mark.parametrize(
    ("text", "seconds"), [("9" * 400, RETRY_AFTER_MAX), ("31", RETRY_AFTER_MAX), ("-1", None), ("²", None)]
)
async def test_retry_after_is_capped(attempt, bob, text, seconds):
    bob.reply = lambda _request: bob.problem("overloaded", **{"Retry-After": text.encode().decode("latin-1")})
    outcome = await attempt()
    assert isinstance(outcome, NoValidAnswer)
    assert (outcome.final, outcome.retry_after) == (False, seconds)


class Endless(httpx.AsyncByteStream):
    """200 MB, of which a bounded reader takes little."""

    def __init__(self):
        self.given = 0

    async def __aiter__(self):
        while self.given < 200_000_000:
            self.given += 16_384
            yield bytes(16_384)


async def test_a_huge_answer_is_cut_off(attempt, bob):
    stream = Endless()
    bob.reply = lambda _request: httpx.Response(200, headers={"Content-Type": "application/json"}, stream=stream)
    outcome = await attempt()
    assert isinstance(outcome, NoValidAnswer)
    assert "longer than 65536 bytes" in outcome.reason
    assert stream.given <= 65536 + 2 * 16_384


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (httpx.Response(302, headers={"Location": "https://alice.example/v1/challenges"}), "status 302"),
        (httpx.Response(200, text="<html>", headers={"Content-Type": "text/html"}), "type text/html"),
        (httpx.Response(200, content=b"{}"), "of type none"),
        (httpx.Response(200, content=b"{", headers={"Content-Type": "application/json"}), "not JSON"),
        (httpx.Response(404, content=b"{}", headers={"Content-Type": "application/problem+json"}), "code"),
        (httpx.Response(200, json={"challenge": "short", "expires_at": 1}), "challenge"),
    ],
)
async def test_an_answer_of_another_form_is_refused(network, attempt, bob, response, said):
    bob.reply = lambda _request: response
    outcome = await attempt()
    assert isinstance(outcome, NoValidAnswer)
    assert outcome.final
    assert said in outcome.reason
    assert not network.brokers["alice"].requests


@pytest.mark.parametrize("text", ["\x1b[2J\x1b[Halice released its share", "a/" + "b" * 60_000, "a", "a/b c"])
async def test_a_media_type_that_is_none_is_not_shown(attempt, bob, text):
    bob.reply = lambda _request: httpx.Response(200, content=b"{}", headers={"Content-Type": text})
    assert (await attempt()).reason == "status 200 of type unreadable: not a broker's"


async def test_what_a_peer_makes_the_http_library_say_is_escaped_and_cut(attempt, bob):
    def reply(_request):
        raise httpx.RemoteProtocolError("illegal line: \x1b[2J\n" + "X" * 60_000)

    bob.reply = reply
    reason = (await attempt()).reason
    assert reason.isprintable()
    assert len(reason) < 250


async def test_a_compressed_answer_is_refused_unread(attempt, bob):
    stream = Endless()
    bob.reply = lambda _request: httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=stream)
    outcome = await attempt()
    assert isinstance(outcome, NoValidAnswer)
    assert "content coding" in outcome.reason
    assert stream.given == 0


@pytest.mark.parametrize(
    "error", [httpx.ReadError("reset"), httpx.ConnectError("refused"), OSError("gone"), UnicodeError("idna")]
)
async def test_a_broken_connection_may_be_tried_again(attempt, bob, error):
    def reply(_request):
        raise error

    bob.reply = reply
    outcome = await attempt()
    assert isinstance(outcome, NoValidAnswer)
    assert not outcome.final


async def test_a_hung_broker_is_given_up_at_the_deadline(attempt, bob):
    bob.reply = lambda _request: asyncio.get_running_loop().create_future()
    outcome = await attempt(request_seconds=0.01)
    assert isinstance(outcome, NoValidAnswer)
    assert outcome.reason == "no answer within 0.01 s"
    assert not outcome.final


@pytest.mark.parametrize("transient", [True, False])
async def test_a_launcher_without_a_token_is_not_the_brokers_fault(network, attempt, transient):
    network.attester.error = AttesterError("the launcher answers 500: ''", transient=transient)
    outcome = await attempt()
    assert isinstance(outcome, NoToken)
    assert outcome.final is not transient
    assert outcome.text("bob").startswith("no token to show to bob")


async def test_other_participants_audit_heads_go_along(network, attempt, bob):
    heads = {name: network.brokers[name]._audit_head(None).content for name in network.names}
    envelopes = {name: Envelope.parse(data, limit=10_000) for name, data in heads.items()}
    assert isinstance(await attempt(heads=envelopes), Released)
    assert [head.payload["participant"] for head in bob.releases[0].audit_heads] == ["alice", "carol"]
