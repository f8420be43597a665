"""The messages of a release: what they hold, what they refuse, and who may sign them."""

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcbn_protocol import limits, signatures
from mcbn_protocol.encoding import canonical
from mcbn_protocol.errors import MalformedError, ProtocolError, RosterError, TooLargeError
from mcbn_protocol.identifiers import ManifestHash, Role
from mcbn_protocol.messages import (
    AuditHead,
    Challenge,
    ChallengeRequest,
    Problem,
    Refusal,
    Release,
    ReleaseRequest,
)
from mcbn_protocol.refusals import REFUSAL_CODES, refusal_code
from mcbn_protocol.signatures import Envelope, Label, sign

VALID = "6f1c5c3e-9f1b-4c86-9d2a-0f5be1f1d5a7"


@pytest.fixture(scope="session")
def bodies(example):
    vectors = example.messages()[1]
    return {one["name"]: one["output"]["body"].encode() for one in vectors if "output" in one}


KINDS: dict[str, Any] = {
    "challenge-request": ChallengeRequest,
    "challenge": Challenge,
    "release-request": ReleaseRequest,
    "problem": Problem,
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_a_message_reads_back(kind, bodies):
    message = KINDS[kind].parse(bodies[kind])
    assert KINDS[kind].parse(message.to_bytes()) == message


@each_kind
def test_white_space_does_not_matter_in_what_nobody_signs(kind, bodies):
    spaced = json.dumps(json.loads(bodies[kind]), indent=4).encode()
    assert KINDS[kind].parse(spaced) == KINDS[kind].parse(bodies[kind])


@each_kind
def test_a_body_beyond_64_kib_is_refused(kind):
    with pytest.raises(TooLargeError):
        KINDS[kind].parse(b" " * (64 * 1024 + 1))


@each_kind
def test_every_member_but_the_signed_refusal_is_required(kind, bodies):
    value = json.loads(bodies[kind])
    for name in set(value) - {"refusal"}:
        with pytest.raises(MalformedError):
            KINDS[kind].parse(canonical({key: item for key, item in value.items() if key != name}))


@each_kind
@pytest.mark.parametrize("replacement", [None, True, [], {}, 1, "", "x" * 70_000, {"a": {"a": 1}}])
def test_no_member_takes_a_value_of_another_type(kind, bodies, replacement):
    value = json.loads(bodies[kind])
    for name in set(value) - {"title", "check", "expires_at", "audit_heads"}:
        with pytest.raises(MalformedError):
            KINDS[kind].parse(canonical(value | {name: replacement}))


@each_kind
def test_an_unknown_member_is_refused(kind, bodies):
    with pytest.raises(MalformedError, match="unknown member"):
        KINDS[kind].parse(canonical(json.loads(bodies[kind]) | {"debug": True}))


@given(data=st.data())
def test_a_message_with_any_byte_changed_is_read_or_malformed(data, bodies):
    kind = data.draw(st.sampled_from(sorted(KINDS)))
    raw = bytearray(bodies[kind])
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(MalformedError):  # any other error fails the test
        KINDS[kind].parse(bytes(raw)).to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"kem": "rsa"}, {"kem": "mlkem768-x25519"}, {"recipient_key": "AAAA"},
        {"evidence": {"kind": "confidential-space"}},
        {"evidence": {"kind": "nitro", "token": "a.b.c"}}, {"evidence": {"kind": "confidential-space", "token": "a.b"}},
        {"evidence": {"kind": "confidential-space", "token": "a.b.c.d"}},
        {"evidence": {"kind": "confidential-space", "token": "a.b.c\n"}},
        {"evidence": {"kind": "confidential-space", "token": "a.b.c", "nonce": "x"}},
        {"evidence": {"kind": "confidential-space", "token": "a." + "b" * 32_766 + ".c"}},
        {"audit_heads": [{}]}, {"audit_heads": [1]}, {"audit_heads": {}}, {"role": "CLIENT"}, {"manifest_hash": "00"},
        {"challenge": "A" * 54 + "B"},
    ],
)  # fmt: skip
def test_a_release_request_of_another_shape_is_refused(bodies, change):
    with pytest.raises(MalformedError):
        ReleaseRequest.parse(canonical(json.loads(bodies["release-request"]) | change))


def test_a_deep_payload_in_an_audit_head_is_refused(bodies):
    deep = b'{"payload":{"a":' + b"[" * 20_000 + b"]" * 20_000 + b'},"signatures":[]}'
    body = bodies["release-request"].replace(b'"audit_heads":[', b'"audit_heads":[' + deep + b",")
    with pytest.raises(MalformedError):
        ReleaseRequest.parse(body)


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": [1]}, {"sequence": None}, {"head": {"a": "b"}}, {"participant": "a" * 65}, {"more": 1},
        {"\u00e4" * 1000: [{}]},
    ],
)  # fmt: skip
def test_what_is_no_audit_head_is_refused_before_it_costs_anything(bodies, change, monkeypatch):
    value = json.loads(bodies["release-request"])
    (head, *_) = value["audit_heads"]
    ReleaseRequest.parse(canonical(value | {"audit_heads": [head]}))
    body = canonical(value | {"audit_heads": [head | {"payload": head["payload"] | change}]})
    monkeypatch.setattr(signatures, "canonical", None)
    with pytest.raises(MalformedError, match="audit_heads: not an audit head"):
        ReleaseRequest.parse(body)


def test_a_problem_says_what_its_code_says(bodies):
    value = json.loads(bodies["problem"])
    for change in ({"status": 401}, {"type": "about:blank"}, {"code": "x"}, {"check": "Not A Name"}, {"check": ""}):
        with pytest.raises(MalformedError):
            Problem.parse(canonical(value | change))


@pytest.mark.parametrize("reason", REFUSAL_CODES.values(), ids=REFUSAL_CODES)
def test_every_code_makes_a_problem(reason):
    problem = Problem(reason, "dbgstat", VALID, None)
    assert Problem.parse(problem.to_bytes()) == problem
    assert 400 <= reason.status < 600
    assert reason.title.endswith(".")
    assert reason.next_step.endswith(".")
    assert refusal_code(reason.code) is reason


def test_an_unknown_code_is_refused():
    with pytest.raises(MalformedError, match="unknown refusal code"):
        refusal_code("sorry")


@pytest.fixture
def release(example, roster, release_key):
    document = example.document(
        "mcbn/release/v1", roster.hash, example.RELEASE, [("alice", example.release_seed("alice"))]
    )
    return Release.parse(canonical(document), participant="alice", roster=roster)


@pytest.fixture
def refusal():
    return lambda roster, **change: dataclasses.replace(
        Refusal(
            roster_hash=roster.hash,
            participant="alice",
            manifest_hash=ManifestHash(b"m" * 32),
            role=Role.CLIENT,
            challenge="A" * 55,
            binding=b"b" * 32,
            reason=refusal_code("appraisal_failed"),
            check="dbgstat",
            issued_at=0,
            correlation_id=VALID,
        ),
        **change,
    )


def test_signed_messages_read_back(release, refusal, roster, release_key):
    signed = release.sign(release_key("alice")).to_bytes()
    assert Release.parse(signed, participant="alice", roster=roster) == release
    for check in ("dbgstat", None):
        no = refusal(roster, check=check)
        assert Refusal.from_envelope(no.sign(release_key("alice")), participant="alice", roster=roster) == no


def test_nobody_is_blamed_by_anothers_signature(refusal, roster, release_key):
    """Bob's broker signs, as Bob, a refusal that speaks in Alice's name; and one that he signs as Alice."""
    payload = refusal(roster).sign(release_key("alice")).payload
    as_bob = sign(release_key("bob"), "bob", Label.REFUSAL, roster.hash, payload)
    with pytest.raises(MalformedError, match="participant: must be bob"):
        Refusal.from_envelope(as_bob, participant="bob", roster=roster)
    with pytest.raises(MalformedError, match="by alice, is expected"):
        Refusal.from_envelope(as_bob, participant="alice", roster=roster)
    with pytest.raises(ProtocolError, match="signature of alice"):
        Refusal.from_envelope(refusal(roster).sign(release_key("bob")), participant="alice", roster=roster)


def test_a_release_of_another_participant_is_refused(release, roster, release_key):
    other = dataclasses.replace(release, participant="bob").sign(release_key("bob")).to_bytes()
    with pytest.raises(MalformedError, match="by alice, is expected"):
        Release.parse(other, participant="alice", roster=roster)
    renamed = sign(release_key("alice"), "alice", Label.RELEASE, roster.hash, json.loads(other)["payload"])
    with pytest.raises(MalformedError, match="participant: must be alice"):
        Release.parse(renamed.to_bytes(), participant="alice", roster=roster)
    with pytest.raises(RosterError, match="dave"):
        Release.parse(other, participant="dave", roster=roster)


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": 0}, {"share_index": 0}, {"share_index": 101}, {"lease_seconds": 0}, {"audit_sequence": 0},
        {"kem": "x"},
        {"lease_seconds": limits.LEASE_SECONDS_MAX + 1}, {"binding": "AAAA"}, {"sealed_share": "AAAA"},
        {"role": "both"},
        {"kem": "mlkem768-x25519"}, {"audit_hash": "x"}, {"issued_at": -1}, {"roster_hash": "00" * 32}, {"extra": 1},
    ],
)  # fmt: skip
def test_a_signed_release_of_another_shape_is_refused(release, roster, release_key, change):
    payload = release.sign(release_key("alice")).payload | change
    signed = sign(release_key("alice"), "alice", Label.RELEASE, roster.hash, payload)
    with pytest.raises(MalformedError, match=r"^release"):
        Release.parse(signed.to_bytes(), participant="alice", roster=roster)


@pytest.mark.parametrize(
    "change",
    [
        {"code": "x"}, {"check": 1}, {"check": "A b"}, {"challenge": "x"}, {"correlation_id": VALID.upper()},
        {"correlation_id": VALID + "\n"}, {"issued_at": True}, {"roster_hash": "00" * 32}, {"extra": 1},
    ],
)  # fmt: skip
def test_a_signed_refusal_of_another_shape_is_refused(refusal, roster, release_key, change):
    payload = refusal(roster).sign(release_key("alice")).payload | change
    signed = sign(release_key("alice"), "alice", Label.REFUSAL, roster.hash, payload)
    with pytest.raises(MalformedError, match=r"^refusal"):
        Refusal.from_envelope(signed, participant="alice", roster=roster)


def test_an_audit_head_reads_back(example, roster, release_key):
    envelope = Envelope.from_json(
        example.document("mcbn/audit-head/v1", roster.hash, example.AUDIT_HEAD, [("bob", example.release_seed("bob"))]),
        "x",
    )
    head = AuditHead.from_envelope(envelope, roster=roster)
    assert head.sign(release_key("bob")) == envelope


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": -1}, {"head": "x"}, {"incarnation": "AAAA"}, {"issued_at": None}, {"participant": "B"},
        {"roster_hash": "00" * 32}, {"extra": 1},
    ],
)  # fmt: skip
def test_an_audit_head_of_another_shape_is_refused(example, roster, release_key, change):
    signed = sign(release_key("bob"), "bob", Label.AUDIT_HEAD, roster.hash, example.AUDIT_HEAD | change)
    with pytest.raises(MalformedError, match=r"^audit head"):
        AuditHead.from_envelope(signed, roster=roster)


def test_an_audit_head_of_a_stranger_is_refused(example, roster, release_key):
    signed = sign(
        release_key("bob"), "dave", Label.AUDIT_HEAD, roster.hash, example.AUDIT_HEAD | {"participant": "dave"}
    )
    with pytest.raises(RosterError, match="dave"):
        AuditHead.from_envelope(signed, roster=roster)
