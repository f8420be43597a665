"""Mallory runs a participant's broker, or stands in its place: no key comes of it, and nobody is blamed unheard."""

import asyncio
import contextlib
import dataclasses
import functools
import gzip
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_protocol import limits
from mcbn_protocol.identifiers import Role
from mcbn_protocol.manifest import BrokerAddress
from mcbn_protocol.messages import Release, ReleaseRequest
from mcbn_protocol.sealing import SEED_BYTES, RecipientKey, seal, seal_info
from mcbn_protocol.shares import Share, commitment
from mcbn_protocol.signatures import Envelope, Label, sign
from mcbn_workload.brokers.errors import ManifestConflictError, ManifestUnavailableError, QuorumIncompleteError
from mcbn_workload.brokers.http import RETRY_AFTER_MAX
from mcbn_workload.brokers.outcomes import Row
from mcbn_workload.brokers.quorum import ATTEMPTS_MAX, BACKOFF_MAX
from mcbn_workload.epoch_keys.epoch import SharesRefusedError
from mcbn_workload.epoch_keys.ring import KeyRing
from mcbn_workload.errors import NoKeysError
from tests.attacks.lab_workload import (
    LEASE_SECONDS,
    NAMES,
    NETWORK,
    Authority,
    Broker,
    Lab,
    Reply,
    problem,
    unchecked_share,
)

FAMILY = "Brokers as adversaries"

PATIENT = 10.0**6  # seconds; the pauses of the laboratory take no time
ASKED_ONCE = ["/v1/manifest", "/v1/challenges", "/v1/releases"]
EXCHANGE = ASKED_ONCE[1:]


@pytest.fixture
async def lab():
    async with Lab().serving() as lab:
        yield lab


@pytest.fixture
def bob(lab: Lab) -> Broker:
    """Mallory's place."""
    return lab.brokers["bob"]


async def refusal_of(ring: KeyRing) -> NoKeysError:
    """Start a workload that must not get a key, nor open a channel."""
    with pytest.raises(NoKeysError) as caught:
        await ring.start()
    assert ring.epochs == ()
    with pytest.raises(NoKeysError):
        ring.client_engine()
    return caught.value


async def bob_alone_fails(ring: KeyRing) -> Row:
    """Start a workload for which Bob's share is missing, and only his; nobody else is named."""
    error = await refusal_of(ring)
    assert isinstance(error, QuorumIncompleteError)
    assert [row.participant for row in error.rows if not row.complete] == ["bob"]
    assert "2 of 3 needed shares were released; missing: " in str(error)
    row = error.rows[1]
    assert row.text in str(error)
    assert not any(other in str(error) for other in ("alice", "carol", "Carol"))
    return row


async def bob_is_convicted(ring: KeyRing, said: str) -> None:
    """Bob is blamed: his own release key signed what is wrong, for this very request."""
    row = await bob_alone_fails(ring)
    assert row.outcome == "mismatch"
    assert row.text.startswith("bob signed a wrong release: ")
    assert said in row.text


async def bob_is_not_blamed(ring: KeyRing, said: str) -> Row:
    """Bob is missing, but nothing that he signed says that he is to blame."""
    row = await bob_alone_fails(ring)
    assert row.outcome == "no_valid_answer"
    assert row.text.startswith("no valid answer from bob: ")
    assert said in row.text
    return row


def only(path: str, reply: Reply) -> Callable[[str, bytes], Reply | None]:
    """Answer one path with this, and the others honestly."""
    return lambda asked, _body: reply if asked == path else None


def altered(path: str, change: Callable[[Reply], Reply]) -> Callable[[str, Reply], Reply]:
    return lambda asked, reply: change(reply) if asked == path else reply


def saying(**changes: object) -> Callable[[Release, ReleaseRequest], Release]:
    """Sign a release with these fields changed."""
    return lambda release, _asked: dataclasses.replace(release, **changes)  # type: ignore[arg-type]  # any field


async def test_the_honest_network_gathers(lab: Lab) -> None:
    """Nobody attacks: nobody lies, and the two roles hold one key."""
    server, client = lab.ring(), lab.ring(role=Role.CLIENT)
    one, other = await server.start(), await client.start()
    assert one.psk is not None
    assert one.psk == other.psk
    assert [lease.participant for lease in one.leases] == list(NAMES)
    server.client_engine()


# Keys and certificates


@contextlib.asynccontextmanager
async def serving_with_tls(folder: Path, authorities: dict[str, Authority], pinned: Authority):
    """A laboratory whose manifest names https addresses under one CA. The manifest comes from `folder`."""
    lab = Lab()
    lab.urls = {name: url.replace("http:", "https:") for name, url in lab.urls.items()}
    agreed = lab.open_epoch(1, brokers={name: BrokerAddress(url, pinned.pem) for name, url in lab.urls.items()})
    (folder / "bundle.json").write_bytes(agreed.bundle)
    async with lab.serving({name: authority.context for name, authority in authorities.items()}) as serving:
        yield serving


@pytest.mark.parametrize("lies", [False, True])
async def test_a_valid_certificate_is_no_signing_key(tmp_path: Path, lies: bool) -> None:
    """Mallory, with a certificate of the CA in the manifest but not Bob's release key, signs releases with another."""
    authority = Authority(tmp_path / "ca")
    async with serving_with_tls(tmp_path, dict.fromkeys(NAMES, authority), authority) as lab:
        ring = lab.ring(file=tmp_path / "bundle.json")
        if not lies:
            assert (await ring.start()).epoch == 1
            return
        lab.brokers["bob"].release_key = Ed25519PrivateKey.generate()
        await bob_is_not_blamed(ring, "signature")
        assert lab.brokers["bob"].releases


async def test_a_certificate_of_another_authority_hears_no_question(tmp_path: Path) -> None:
    """Mallory, on the road to Bob, shows a certificate of an authority of her own."""
    authority, own = Authority(tmp_path / "ca"), Authority(tmp_path / "own")
    listeners = dict.fromkeys(NAMES, authority) | {"bob": own}
    async with serving_with_tls(tmp_path, listeners, authority) as lab:
        await bob_is_not_blamed(lab.ring(file=tmp_path / "bundle.json"), "CERTIFICATE_VERIFY_FAILED")
        assert lab.brokers["bob"].asked == []


@pytest.mark.parametrize("key", ["fresh", "alice", "consent"])
async def test_a_release_under_another_key_is_not_bobs(lab: Lab, bob: Broker, key: str) -> None:
    """Mallory, in Bob's place, signs in his name with a fresh key, Alice's release key, or his own consent key."""
    keys = {
        "fresh": Ed25519PrivateKey.generate(),
        "alice": lab.release_keys["alice"],
        "consent": lab.consent_keys["bob"],
    }
    bob.release_key = keys[key]
    await bob_is_not_blamed(lab.ring(), "signature")


# Shares


async def test_a_wrong_share_convicts_its_participant(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker, releases a share that is not the committed one."""
    bob.share_of = lambda _own: Share(os.urandom(32))
    await bob_is_convicted(lab.ring(), "does not match its commitment")


def _noticed(sent: asyncio.Event, reply: Reply) -> Reply:
    sent.set()
    return reply


async def test_a_share_chosen_after_the_others_convicts_its_participant(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker and in league with the others, waits for their shares and then chooses his."""
    others = {name: asyncio.Event() for name in ("alice", "carol")}
    for name, sent in others.items():
        lab.brokers[name].change_reply = altered("/v1/releases", functools.partial(_noticed, sent))

    async def choose(_own: Share) -> Share:
        for sent in others.values():
            await sent.wait()
        pairs = zip(lab.share("alice").reveal(), lab.share("carol").reveal(), strict=True)
        return Share(bytes(one ^ other for one, other in pairs))

    bob.share_of = choose
    await bob_is_convicted(lab.ring(), "does not match its commitment")


async def test_a_copied_share_convicts_its_participant(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker, releases Alice's share in place of his own."""
    bob.share_of = lambda _own: lab.share("alice")
    await bob_is_convicted(lab.ring(), "does not match its commitment")


@pytest.mark.parametrize("byte", [0x00, 0xFF])
async def test_a_degenerate_share_convicts_its_participant_even_if_committed(lab: Lab, bob: Broker, byte: int) -> None:
    """Mallory, as Bob, commits to a share that anybody can guess, and releases it."""
    guessed = unchecked_share(bytes([byte]) * 32)
    committed = lab.first.manifest.commitments | {"bob": commitment(NETWORK, "bob", 1, guessed)}  # type: ignore[operator]  # dict
    lab.open_epoch(1, commitments=committed)
    bob.share_of = lambda _own: guessed
    await bob_is_convicted(lab.ring(), "not drawn at random")


async def test_equal_shares_give_no_key_although_both_are_committed(lab: Lab) -> None:
    """Mallory, as Bob, has learnt Alice's share, commits to the same bytes under his name, and releases them."""
    lab.shares["bob", 1] = lab.share("alice")
    lab.open_epoch(1)
    error = await refusal_of(lab.ring())
    assert isinstance(error, SharesRefusedError)
    assert "equal" in str(error)


async def test_equal_shares_name_the_participants_that_committed_to_them(lab: Lab) -> None:
    """Mallory, as Bob, commits to Alice's share under his name: whoever has to open a new epoch must know who."""
    lab.shares["bob", 1] = lab.share("alice")
    lab.open_epoch(1)
    error = str(await refusal_of(lab.ring()))
    assert "alice" in error
    assert "bob" in error
    assert "carol" not in error


async def test_a_copied_commitment_makes_no_manifest(lab: Lab) -> None:
    """Mallory, as Bob, copies Alice's commitment, and all three sign without looking."""
    payload = lab.first.manifest.to_payload()
    commitments = payload["commitments"]
    assert isinstance(commitments, dict)
    commitments["bob"] = commitments["alice"]
    for broker in lab.brokers.values():
        broker.bundle = lab.signed(payload)
    error = await refusal_of(lab.ring())
    assert isinstance(error, ManifestUnavailableError)
    assert "same commitment" in str(error)


async def test_a_share_sealed_to_another_key_convicts_its_participant(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker, seals his share to a key of his own in place of the workload's."""

    def reseal(release: Release, asked: ReleaseRequest) -> Release:
        other = RecipientKey.from_seed(asked.kem, os.urandom(SEED_BYTES)).public_bytes
        info = seal_info(release.binding, release.epoch, release.share_index)
        return dataclasses.replace(release, sealed_share=seal(asked.kem, other, info=info, share=lab.share("bob")))

    bob.change_release = reseal
    await bob_is_convicted(lab.ring(), "does not open")


async def test_a_share_of_another_epoch_is_never_mixed_in(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker, releases his share of the next epoch under the present one's manifest."""
    bob.share_of = lambda _own: lab.share("bob", 2)
    await bob_is_convicted(lab.ring(), "does not match its commitment")


# Signed fields


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"share_index": 1}, "share index 1 instead of 2", id="alices-index"),
        pytest.param({"share_index": 3}, "share index 3 instead of 2", id="carols-index"),
        pytest.param({"share_index": 4}, "share index 4 instead of 2", id="nobodys-index"),
        pytest.param({"epoch": 2}, "epoch", id="next-epoch"),
        pytest.param({"manifest_hash": bytes(32)}, "manifest hash", id="another-manifest"),
        pytest.param({"role": Role.CLIENT}, "role", id="another-role"),
        pytest.param({"lease_seconds": LEASE_SECONDS + 1}, "lease longer than the manifest's", id="longer-lease"),
        pytest.param({"lease_seconds": limits.LEASE_SECONDS_MAX}, "lease longer", id="longest-lease"),
    ],
)
async def test_a_signed_field_other_than_asked_for_convicts(
    lab: Lab, bob: Broker, changes: dict[str, object], said: str
) -> None:
    """Mallory, as Bob's broker, signs a release that says something other than was asked for."""
    bob.change_release = saying(**changes)
    await bob_is_convicted(lab.ring(), said)


async def test_two_brokers_with_one_index_do_not_pass_for_two(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker, uses Carol's index while Carol uses it too."""
    bob.change_release = saying(share_index=3)
    await bob_is_convicted(lab.ring(), "share index 3 instead of 2")
    assert lab.roster.share_index("carol") == 3


@pytest.mark.parametrize("name", ["alice", "carol", "mallory"])
async def test_a_release_in_anothers_name_is_not_bobs(lab: Lab, bob: Broker, name: str) -> None:
    """Mallory, as Bob's broker, signs in the name of another participant with Bob's release key."""
    bob.change_release = saying(participant=name)
    error = await refusal_of(lab.ring())
    assert isinstance(error, QuorumIncompleteError)
    assert [row.participant for row in error.rows if not row.complete] == ["bob"]
    assert error.rows[1].text.startswith("no valid answer from bob: ")


async def test_one_participant_does_not_count_twice(lab: Lab) -> None:
    """Mallory leads the road to Bob to Alice's honest broker, which would make two of the needed shares."""
    lab.brokers["bob"] = lab.brokers["alice"]
    await bob_is_not_blamed(lab.ring(), "signature, by bob")


@pytest.mark.parametrize(
    "seconds", [-(10**6), -LEASE_SECONDS - 5, 400, 10**6, 10**9], ids=["days-ago", "ended", "ahead", "days", "decades"]
)
async def test_a_lease_that_is_not_of_the_present_is_refused(lab: Lab, bob: Broker, seconds: int) -> None:
    """Mallory, as Bob's broker, dates a release far back or ahead, so that its lease ends when he likes."""
    bob.change_release = saying(issued_at=int(time.time()) + seconds)
    await bob_is_not_blamed(lab.ring(), "the clocks differ")


async def test_a_release_dated_ahead_a_little_prolongs_nothing(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker, dates a release ahead as far as clocks may differ: the lease starts at our question."""
    bob.change_release = saying(issued_at=int(time.time()) + 200)
    keys = await lab.ring().start()
    assert keys.remaining() <= LEASE_SECONDS


# Replays


def replays(answers: dict[str, Reply]) -> Callable[[str, bytes], Reply | None]:
    return lambda path, _body: answers.get(path)


@pytest.mark.parametrize("paths", [EXCHANGE, ["/v1/releases"]], ids=["with-its-challenge", "alone"])
@pytest.mark.parametrize("role", list(Role))
async def test_a_release_of_another_workload_blames_nobody(lab: Lab, bob: Broker, paths: list[str], role: Role) -> None:
    """Mallory, on the road to Bob, replays what his honest broker gave to another workload."""
    await lab.ring(role=role).start()
    bob.answer = replays({path: bob.sent[path][0] for path in paths})
    await bob_is_not_blamed(lab.ring(role=Role.SERVER), "a signed release of another request")


@pytest.mark.parametrize("paths", [EXCHANGE, ["/v1/releases"]], ids=["with-its-challenge", "alone"])
async def test_a_refusal_of_another_request_blames_nobody(lab: Lab, bob: Broker, paths: list[str]) -> None:
    """Mallory, on the road to Bob, replays a refusal that he signed for another workload, after he allowed again."""
    bob.refuses = "consent_paused"
    await refusal_of(lab.ring())
    bob.refuses = None
    bob.answer = replays({path: bob.sent[path][0] for path in paths})
    await bob_is_not_blamed(lab.ring(), "a signed refusal of another request")


# Refusals


async def test_a_refusal_of_his_own_names_bob(lab: Lab, bob: Broker) -> None:
    """Nobody attacks: Bob refuses this request himself, and signs it."""
    bob.refuses = "consent_paused"
    row = await bob_alone_fails(lab.ring())
    assert (row.outcome, row.code, row.attempts) == ("refused", "consent_paused", 1)
    assert row.text.startswith("bob refuses: bob has paused its consent (signed refusal consent_paused")


@pytest.mark.parametrize(
    "changes",
    [
        {"challenge": "A" * 55},
        {"binding": bytes(32)},
        {"manifest_hash": bytes(32)},
        {"role": Role.CLIENT},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_a_refusal_of_something_else_blames_nobody(lab: Lab, bob: Broker, changes: dict[str, object]) -> None:
    """Mallory, in Bob's place, shows a refusal that Bob signed over another challenge, key, manifest or role."""
    bob.refuses = "consent_paused"
    bob.change_refusal = lambda refusal: dataclasses.replace(refusal, **changes)  # type: ignore[arg-type]  # any field
    await bob_is_not_blamed(lab.ring(), "a signed refusal of another request")


@pytest.mark.parametrize("key", ["bob", "mallory"])
async def test_a_broker_cannot_blame_another_participant(lab: Lab, bob: Broker, key: str) -> None:
    """Mallory, as Bob's broker, signs a refusal in Carol's name with Bob's key, or with one of her own."""
    bob.refuses = "consent_paused"
    bob.release_key = lab.release_keys.get(key, Ed25519PrivateKey.generate())
    bob.change_refusal = lambda refusal: dataclasses.replace(refusal, participant="carol")
    await bob_is_not_blamed(lab.ring(), "exactly one signature, by bob")


async def test_a_genuine_refusal_of_another_participant_is_not_bobs(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker, passes on a refusal that Carol really signed, to somebody else."""
    lab.brokers["carol"].refuses = "consent_paused"
    await refusal_of(lab.ring())
    lab.brokers["carol"].refuses = None
    bob.answer = only("/v1/releases", lab.brokers["carol"].sent["/v1/releases"][0])
    await bob_is_not_blamed(lab.ring(), "exactly one signature, by bob")


@pytest.mark.parametrize("path", EXCHANGE)
async def test_words_that_nobody_signed_blame_nobody(lab: Lab, bob: Broker, path: str) -> None:
    """Mallory, on the road to Bob, writes a refusal whose free text accuses Carol, and signs nothing."""
    accusing = problem("consent_paused")
    title = b"Carol has paused its consent."
    body = accusing.body.replace(b"The participant has paused its consent.", title)
    assert title in body
    bob.answer = only(path, dataclasses.replace(accusing, body=body))
    await bob_is_not_blamed(lab.ring(), "unsigned refusal consent_paused" if path == EXCHANGE[0] else "refusal")


async def test_a_signature_for_something_else_is_no_refusal(lab: Lab, bob: Broker) -> None:
    """Mallory, on the road to Bob, shows his signed audit head as a refusal, and later as a release."""
    await lab.ring().start()
    head = Envelope.parse(bob._audit_head(), limit=limits.CARD_BYTES)
    bob.answer = only("/v1/releases", problem("consent_paused", head))
    await bob_is_not_blamed(lab.ring(), "signature")
    bob.answer = only("/v1/releases", Reply(head.to_bytes()))
    await bob_is_not_blamed(lab.ring(), "signature")


# What an answer looks like


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda body: b" " + body, "not canonical JSON", id="space"),
        pytest.param(lambda body: body + b"\n", "not canonical JSON", id="newline"),
        pytest.param(lambda body: b"\xef\xbb\xbf" + body, "not JSON", id="byte-order-mark"),
        pytest.param(lambda body: body.replace(b'"bob"', b'"\\u0062ob"', 1), "not canonical JSON", id="escape"),
        pytest.param(
            lambda body: body.replace(b'{"payload":', b'{"payload":{},"payload":', 1), "twice", id="duplicate"
        ),
        pytest.param(lambda body: body.replace(b'"epoch":1', b'"epoch":1,"epoch":1'), "twice", id="duplicate-signed"),
        pytest.param(lambda body: body.replace(b'"epoch":1', b'"epoch":1.0'), "not an integer", id="float"),
        pytest.param(lambda body: body[:-1] + b',"unsigned":1}', "unknown", id="unknown-member"),
        pytest.param(lambda body: body[:-1], "not JSON", id="cut-short"),
        pytest.param(lambda body: b"[" * 30_000 + b"]" * 30_000, "nested too deeply", id="deep"),
        pytest.param(lambda _body: b"", "not JSON", id="empty"),
    ],
)
async def test_bytes_that_are_not_exactly_the_message_are_refused(
    lab: Lab, bob: Broker, change: Callable[[bytes], bytes], said: str
) -> None:
    """Mallory, on the road to Bob, changes how his genuine release is written."""
    bob.change_reply = altered("/v1/releases", lambda reply: dataclasses.replace(reply, body=change(reply.body)))
    await bob_is_not_blamed(lab.ring(), said)


async def test_a_signed_member_that_we_do_not_know_is_refused(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker, signs a release with a member more than the protocol has."""

    def extend(reply: Reply) -> Reply:
        payload = Envelope.parse(reply.body, limit=limits.RESPONSE_BYTES).payload | {"more": 1}
        signed = sign(lab.release_keys["bob"], "bob", Label.RELEASE, lab.roster.hash, payload)
        return dataclasses.replace(reply, body=signed.to_bytes())

    bob.change_reply = altered("/v1/releases", extend)
    await bob_is_not_blamed(lab.ring(), "more")


@pytest.mark.parametrize("path", EXCHANGE)
@pytest.mark.parametrize("media_type", ["text/html", None, "application/problem+json", "Carol refuses", "x" * 9000])
async def test_another_content_type_is_not_read(lab: Lab, bob: Broker, path: str, media_type: str | None) -> None:
    """Mallory, on the road to Bob, labels his genuine answer as something else."""
    bob.change_reply = altered(path, lambda reply: dataclasses.replace(reply, media_type=media_type))
    row = await bob_is_not_blamed(lab.ring(), "not a broker's")
    assert len(row.text) < 400


@pytest.mark.parametrize("path", EXCHANGE)
async def test_a_compressed_answer_is_not_unpacked(lab: Lab, bob: Broker, path: str) -> None:
    """Mallory, as Bob's broker, sends 200 MB in 200 KB."""
    bomb = gzip.compress(bytes(200_000_000), 1)
    bob.answer = only(path, Reply(bomb, headers={"content-encoding": "gzip"}))
    await bob_is_not_blamed(lab.ring(), "content coding")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", EXCHANGE)
async def test_a_redirect_is_not_followed(lab: Lab, bob: Broker, path: str, status: int) -> None:
    """Mallory, as Bob's broker, sends the workload on to Alice's."""
    bob.answer = only(path, Reply(status=status, headers={"location": lab.urls["alice"] + path}))
    await bob_is_not_blamed(lab.ring(), f"status {status}")
    assert lab.brokers["alice"].asked == ASKED_ONCE


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"challenge":"short","expires_at":1}', id="short"),
        pytest.param(b'{"challenge":"' + b"A" * 74 + b'","expires_at":1}', id="another-nonce"),
        pytest.param(b'{"challenge":["' + b"A" * 55 + b'"],"expires_at":1}', id="list"),
        pytest.param(b'{"challenge":"' + b"A" * 55 + b'","challenge":"' + b"B" * 55 + b'","expires_at":1}', id="two"),
    ],
)
async def test_a_challenge_of_another_shape_gets_no_token(lab: Lab, bob: Broker, body: bytes) -> None:
    """Mallory, as Bob's broker, chooses the nonce for which the workload shall be attested."""
    bob.answer = only("/v1/challenges", Reply(body))
    await bob_is_not_blamed(lab.ring(), "challenge" if b"challenge" not in body[14:] else "twice")
    assert bob.releases == []


# How an answer comes: slowly, endlessly, or not at all

HEAD = b"HTTP/1.1 200 -\r\ncontent-type: application/json\r\n"


async def hang(_writer: asyncio.StreamWriter) -> None:
    """Say nothing."""
    await asyncio.Event().wait()


async def drip(writer: asyncio.StreamWriter) -> None:
    """Send a byte now and then, so that no wait for a byte is long."""
    writer.write(HEAD + b"content-length: 60000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def stall(writer: asyncio.StreamWriter) -> None:
    """Send half of the header and no more."""
    writer.write(HEAD)
    await hang(writer)


async def inform(writer: asyncio.StreamWriter) -> None:
    """Send interim answers, of which HTTP allows any number (RFC 9110 section 15.2)."""
    while True:
        writer.write(b"HTTP/1.1 103 -\r\n\r\n" * 100)
        await writer.drain()
        await asyncio.sleep(0.01)


async def reset(writer: asyncio.StreamWriter) -> None:
    """Break the connection in the middle of an answer, with a TCP reset."""
    writer.write(HEAD + b'content-length: 600\r\n\r\n{"payload":')
    await writer.drain()
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def close(writer: asyncio.StreamWriter) -> None:
    """End the connection in the middle of an answer."""
    writer.write(HEAD + b'content-length: 600\r\n\r\n{"payload":')
    await writer.drain()


async def hang_up(_writer: asyncio.StreamWriter) -> None:
    """End the connection without a word."""


async def babble(writer: asyncio.StreamWriter) -> None:
    """Answer with something that is not HTTP."""
    writer.write(b"\x16\x03\x01\x02\x00\x01" * 100 + b"\r\n\r\n")
    await writer.drain()


class Endless:
    """Sends for as long as somebody takes it, and counts."""

    def __init__(self, start: bytes, chunk: bytes) -> None:
        self._start = start
        self._chunk = chunk
        self.sent = 0

    async def __call__(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self._start)
        while self.sent < 200_000_000:
            writer.write(self._chunk)
            await writer.drain()
            self.sent += len(self._chunk)


def over_the_wire(path: str, fault: Callable[[asyncio.StreamWriter], object]):
    async def wire(asked: str, writer: asyncio.StreamWriter) -> bool:
        if asked != path:
            return False
        await fault(writer)  # type: ignore[misc]  # each of them is a coroutine function
        return True

    return wire


@pytest.mark.parametrize("fault", [hang, stall, drip, inform])
@pytest.mark.parametrize("path", EXCHANGE)
async def test_a_slow_broker_does_not_outlast_the_request_deadline(lab: Lab, bob: Broker, path: str, fault) -> None:
    """Mallory, as Bob's broker, keeps the connection open and never comes to an end."""
    bob.wire = over_the_wire(path, fault)
    await bob_is_not_blamed(lab.ring(request_seconds=1, gather_seconds=1.5), "no answer within 1 s")


async def test_a_hung_broker_does_not_outlast_the_gathering_deadline(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker, is silent, while the deadline of a request is far away."""
    bob.wire = over_the_wire("/v1/releases", hang)
    await bob_is_not_blamed(lab.ring(request_seconds=1000, gather_seconds=1.5), "before the gathering deadline")


@pytest.mark.parametrize("fault", [reset, close, hang_up, babble])
@pytest.mark.parametrize("path", EXCHANGE)
async def test_a_broken_answer_is_retried_a_few_times_and_blames_nobody(
    lab: Lab, bob: Broker, path: str, fault
) -> None:
    """Mallory, on the road to Bob, breaks every connection in the middle of his answer."""
    bob.wire = over_the_wire(path, fault)
    row = await bob_is_not_blamed(lab.ring(gather_seconds=PATIENT), "Error")
    assert row.attempts == ATTEMPTS_MAX


async def test_a_connection_that_breaks_once_is_survived(lab: Lab, bob: Broker) -> None:
    """Nobody attacks: the network breaks one answer, and the next one comes."""
    faults = iter([reset])

    async def wire(path: str, writer: asyncio.StreamWriter) -> bool:
        fault = next(faults, None) if path == "/v1/releases" else None
        if fault is not None:
            await fault(writer)
        return fault is not None

    bob.wire = wire
    assert (await lab.ring().start()).epoch == 1
    assert bob.asked.count("/v1/challenges") == 2


@pytest.mark.parametrize(
    ("start", "chunk"),
    [
        pytest.param(HEAD + b"content-length: 200000000\r\n\r\n", bytes(65_536), id="huge"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n", b"10000\r\n" + bytes(65_536) + b"\r\n", id="chunks"),
        pytest.param(HEAD + b"connection: close\r\n\r\n", bytes(65_536), id="until-close"),
    ],
)
@pytest.mark.parametrize("path", EXCHANGE)
async def test_an_endless_answer_is_cut_off(lab: Lab, bob: Broker, path: str, start: bytes, chunk: bytes) -> None:
    """Mallory, as Bob's broker, sends an answer that has no end, or one that is too far away."""
    endless = Endless(start, chunk)
    bob.wire = over_the_wire(path, endless)
    row = await bob_is_not_blamed(lab.ring(), f"longer than {limits.RESPONSE_BYTES} bytes")
    assert row.attempts == 1
    assert endless.sent < 20_000_000  # what lies in the sockets' buffers


@pytest.mark.parametrize("path", EXCHANGE)
async def test_an_endless_header_is_cut_off(lab: Lab, bob: Broker, path: str) -> None:
    """Mallory, as Bob's broker, sends header fields without end."""
    endless = Endless(HEAD, b"x-more: " + b"x" * 8000 + b"\r\n")
    bob.wire = over_the_wire(path, endless)
    row = await bob_is_not_blamed(lab.ring(gather_seconds=PATIENT), "RemoteProtocolError")
    assert row.attempts == ATTEMPTS_MAX
    assert endless.sent < 200_000_000


# Promises without end


def _status(reply: Reply) -> str:
    return str(reply.status)


async def test_a_promise_without_end_is_given_up(lab: Lab, bob: Broker) -> None:
    """Mallory, in Bob's place, answers 202 for ever: a person is said to decide, but nobody signs that."""
    bob.answer = only("/v1/releases", Reply(status=202, headers={"retry-after": "1"}))
    row = await bob_alone_fails(lab.ring(gather_seconds=PATIENT))
    assert (row.outcome, row.attempts) == ("pending", ATTEMPTS_MAX)
    assert row.text.startswith("no valid answer from bob yet")
    assert len({reply.body for reply in bob.sent["/v1/challenges"]}) == ATTEMPTS_MAX  # each time with new evidence


@pytest.mark.parametrize("retry_after", ["31", "999999999", pytest.param("9" * 400, id="400-digits")])
@pytest.mark.parametrize("reply", [Reply(status=202), problem("rate_limited"), problem("overloaded")], ids=_status)
async def test_a_huge_retry_after_does_not_hold_a_workload(
    lab: Lab, bob: Broker, reply: Reply, retry_after: str
) -> None:
    """Mallory, in Bob's place, asks the workload to come back in the next millennium."""
    bob.answer = only("/v1/releases", dataclasses.replace(reply, headers={"retry-after": retry_after}))
    row = await bob_alone_fails(lab.ring(gather_seconds=PATIENT))
    assert row.text.startswith("no valid answer from bob")
    assert len(lab.slept) == ATTEMPTS_MAX - 1
    assert max(lab.slept) <= RETRY_AFTER_MAX + 1


@pytest.mark.parametrize(
    ("path", "reply"),
    [
        pytest.param("/v1/challenges", Reply(status=503, media_type="text/html"), id="challenges-bare"),
        pytest.param("/v1/releases", Reply(status=503, media_type="text/html"), id="releases-bare"),
        pytest.param("/v1/challenges", problem("overloaded"), id="challenges-overloaded"),
        pytest.param("/v1/releases", problem("overloaded"), id="releases-overloaded"),
        pytest.param("/v1/releases", problem("internal"), id="releases-internal"),
    ],
)
async def test_a_storm_of_failures_is_not_answered_by_a_storm_of_requests(
    lab: Lab, bob: Broker, path: str, reply: Reply
) -> None:
    """Mallory, in Bob's place, fails every request at once, so that workloads ask and ask."""
    bob.answer = only(path, reply)
    await bob_is_not_blamed(lab.ring(gather_seconds=PATIENT), "")
    assert bob.asked.count(path) == ATTEMPTS_MAX
    assert max(lab.slept) <= BACKOFF_MAX
    assert lab.slept == sorted(lab.slept)


async def test_a_refusal_that_may_pass_is_asked_again_only_so_often(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker, signs for ever that there are too many instances, so that workloads ask and ask."""
    bob.refuses = "instances_exceeded"
    row = await bob_alone_fails(lab.ring(gather_seconds=PATIENT))
    assert (row.outcome, row.code, row.attempts) == ("refused", "instances_exceeded", ATTEMPTS_MAX)
    assert row.text.startswith("bob refuses: ")


@pytest.mark.parametrize("missing", [("bob",), ("alice", "carol"), NAMES])
async def test_too_few_brokers_is_an_error_that_names_the_missing(lab: Lab, missing: tuple[str, ...]) -> None:
    """Frank cuts the roads to some brokers; the rest are too few."""
    for name in missing:
        lab.brokers[name].wire = over_the_wire("/v1/challenges", hang_up)
    error = await refusal_of(lab.ring())
    assert isinstance(error, QuorumIncompleteError)
    assert [row.participant for row in error.rows if not row.complete] == list(missing)
    assert f"{3 - len(missing)} of 3 needed shares were released" in str(error)
    assert [name for name in NAMES if f"no valid answer from {name}: " in str(error)] == list(missing)


async def test_a_closed_port_is_named(lab: Lab) -> None:
    """Bob's broker is down: nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        lab.urls["bob"] = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    await bob_is_not_blamed(lab.ring(), "ConnectError")


# Manifests


async def test_equivocating_signers_are_named_and_nobody_is_asked(lab: Lab) -> None:
    """Mallory has made all three sign two manifests of one epoch, and shows each at another broker."""
    lab.brokers["carol"].bundle = lab.agree(1, lease_seconds=30).bundle
    error = await refusal_of(lab.ring())
    assert isinstance(error, ManifestConflictError)
    assert "two different manifests of epoch 1 are signed, by alice, bob, carol" in str(error)
    assert {path for broker in lab.brokers.values() for path in broker.asked} == {"/v1/manifest"}


async def test_an_older_manifest_at_one_broker_does_not_win(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker, gives the manifest before the last, whose image has a known hole.

    Known as: rollback of signed metadata (CVE-2022-29173 in go-tuf).
    """
    old = bob.bundle
    newer = lab.open_epoch(2)
    bob.bundle = old
    keys = await lab.ring().start()
    assert (keys.epoch, keys.agreed.hash) == (2, newer.hash)


async def test_one_broker_cannot_lead_back_to_an_older_epoch(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker, refuses the new epoch and goes on releasing under the old one, alone.

    Known as: rollback of signed metadata (CVE-2022-29173 in go-tuf).
    """
    older = dict(bob.accepted)
    old = bob.bundle
    lab.open_epoch(2)
    bob.bundle, bob.accepted = old, older
    error = await refusal_of(lab.ring())
    assert isinstance(error, QuorumIncompleteError)
    assert [row.participant for row in error.rows if not row.complete] == ["bob"]
    assert "no valid answer from bob: unsigned refusal manifest_not_accepted" in str(error)


async def test_a_release_under_the_older_manifest_is_not_mixed_in(lab: Lab, bob: Broker) -> None:
    """Mallory, as Bob's broker, answers a request under the new manifest with a release under the old one."""
    old_agreed, old_share = bob.accepted[lab.first.hash]
    newer = lab.open_epoch(2)
    bob.accepted[newer.hash] = (old_agreed, old_share)
    await bob_is_convicted(lab.ring(), "epoch, manifest hash")


@pytest.mark.parametrize("signers", [("bob",), ("alice", "bob"), ("bob", "bob", "bob")])
async def test_a_manifest_that_not_all_signed_changes_nothing(lab: Lab, bob: Broker, signers: tuple[str, ...]) -> None:
    """Mallory, as Bob's broker, gives a manifest of a later epoch that lacks somebody's signature."""
    payload = lab.manifest(9).to_payload()
    signed = [sign(lab.consent_keys[name], name, Label.MANIFEST, lab.roster.hash, payload) for name in signers]
    bob.bundle = signed[0].signed_by(*(one.signatures[0] for one in signed)).to_bytes()
    assert (await lab.ring().start()).epoch == 1


@pytest.mark.parametrize("fault", [hang, drip, reset, babble, Endless(HEAD + b"\r\n", bytes(65_536))])
async def test_a_broken_manifest_at_one_broker_changes_nothing(lab: Lab, bob: Broker, fault) -> None:
    """Mallory, as Bob's broker, gives those who look for the manifest no end, or no beginning."""
    bob.wire = over_the_wire("/v1/manifest", fault)
    assert (await lab.ring(request_seconds=1).start()).epoch == 1
