"""Signed documents: which keys are taken, what a signature covers, and what an envelope lets nobody do."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_core_ed25519_add

from mcbn_protocol.encoding import JsonObject, canonical
from mcbn_protocol.errors import MalformedError, SignatureInvalidError
from mcbn_protocol.identifiers import RosterHash
from mcbn_protocol.signatures import Envelope, Label, Signature, check_public_key, join, sign, signing_input, verify

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
ROSTER_HASH = RosterHash(bytes(32))
PAYLOAD: JsonObject = {"a": [1, {"b": None}]}

ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
UNSAFE_KEYS = {
    "order 1": "01" + "00" * 31,
    "order 2": "ec" + "ff" * 30 + "7f",
    "order 4": "00" * 32,
    "order 4, negative": "00" * 31 + "80",
    "order 8": ORDER_8,
    "order 8, negative": ORDER_8[:-2] + "85",
    "order 8, other": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 8, other, negative": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "order 1, not canonical sign": "01" + "00" * 30 + "80",
    "order 2, not canonical sign": "ec" + "ff" * 31,
    "order 4, y = p": "ed" + "ff" * 30 + "7f",
    "order 4, y = p, negative": "ed" + "ff" * 31,
    "order 1, y = p + 1": "ee" + "ff" * 30 + "7f",
    "order 1, y = p + 1, negative": "ee" + "ff" * 31,
    "y = 2^255 - 1": "ff" * 31 + "7f",
    "not on the curve": "02" + "00" * 31,
    "prime order plus order 8": crypto_core_ed25519_add(PUBLIC, bytes.fromhex(ORDER_8)).hex(),
    "31 bytes": PUBLIC[:31].hex(),
    "33 bytes": (PUBLIC + b"\0").hex(),
    "no bytes": "",
}


def check(envelope, *, key=PUBLIC, label=Label.RELEASE, roster_hash=ROSTER_HASH):
    verify(
        key,
        envelope.signatures[0].signature,
        label=label,
        roster_hash=roster_hash,
        payload_bytes=envelope.payload_bytes,
        participant="alice",
        what="release",
    )


def parse_and_check(data):
    envelope = Envelope.parse(data, limit=1000)
    envelope.sole_signature("alice")
    check(envelope)


def signed(payload=None, name="alice", key=KEY):
    return sign(key, name, Label.RELEASE, ROSTER_HASH, PAYLOAD if payload is None else payload)


@pytest.mark.parametrize("key", UNSAFE_KEYS.values(), ids=UNSAFE_KEYS)
def test_unsafe_public_keys_are_refused(key):
    with pytest.raises(MalformedError, match="Ed25519"):
        check_public_key(bytes.fromhex(key))
    with pytest.raises(MalformedError, match="Ed25519"):
        check(signed(), key=bytes.fromhex(key))


@given(st.binary(min_size=32, max_size=32))
def test_every_generated_key_is_taken(seed):
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert check_public_key(public) == public


def test_a_signature_verifies():
    check(signed())


@pytest.mark.parametrize("label", [label for label in Label if label not in {Label.RELEASE, Label.PARTICIPANT}])
def test_a_signature_for_one_purpose_is_none_for_another(label):
    with pytest.raises(SignatureInvalidError, match="signature of alice on this release"):
        check(signed(), label=label)


def test_a_signature_is_bound_to_its_roster():
    with pytest.raises(SignatureInvalidError):
        check(signed(), roster_hash=b"\1" * 32)


def test_another_key_does_not_verify():
    other = Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
    with pytest.raises(SignatureInvalidError) as caught:
        check(signed(), key=other.public_key().public_bytes_raw())
    assert (caught.value.participant, caught.value.code) == ("alice", "signature_invalid")


@given(st.integers(0, 64 * 8 - 1))
def test_any_flipped_bit_of_a_signature_is_refused(bit):
    good = signed()
    raw = bytearray(good.signatures[0].signature)
    raw[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(SignatureInvalidError):
        check(Envelope(good.payload, (Signature("alice", bytes(raw)),)))


@given(st.data())
def test_any_changed_byte_of_a_document_is_refused(data):
    raw = bytearray(signed().to_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((MalformedError, SignatureInvalidError)):
        parse_and_check(bytes(raw))


def test_the_signing_input_is_length_prefixed():
    parts = b"\0\0\0\x0fmcbn/release/v1" + b"\0\0\0\x20" + ROSTER_HASH + b"\0\0\0\2{}"
    assert signing_input(Label.RELEASE, ROSTER_HASH, b"{}") == parts
    assert signing_input(Label.PARTICIPANT, None, b"{}") == b"\0\0\0\x13mcbn/participant/v1\0\0\0\2{}"


@pytest.mark.parametrize(("label", "roster_hash"), [(Label.PARTICIPANT, ROSTER_HASH), (Label.MANIFEST, None)])
def test_only_a_participant_card_goes_without_a_roster(label, roster_hash):
    with pytest.raises(MalformedError, match="only a participant card"):
        signing_input(label, roster_hash, b"{}")


def test_an_envelope_reads_back():
    envelope = signed()
    assert Envelope.parse(envelope.to_bytes(), limit=1000) == envelope
    assert envelope.payload_bytes == canonical(PAYLOAD)


def test_what_is_used_is_what_was_verified():
    """Changing the object that was signed, or the payload that was read, changes nothing in the envelope."""
    payload = {"a": [1]}
    envelope = signed(payload)
    payload["a"].append(2)
    envelope.payload["a"].append(3)
    assert envelope.payload == {"a": [1]}
    check(envelope)


GOOD = signed().to_json()
SIGNATURE = GOOD["signatures"][0]


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"payload": {}},
        {"signatures": [SIGNATURE]},
        GOOD | {"payload": []},
        GOOD | {"signatures": []},
        GOOD | {"signatures": {}},
        GOOD | {"signatures": ["x"]},
        GOOD | {"signatures": [SIGNATURE] * 101},
        GOOD | {"signatures": [SIGNATURE | {"participant": "Alice"}]},
        GOOD | {"signatures": [SIGNATURE | {"signature": SIGNATURE["signature"][:-4]}]},
        GOOD | {"signatures": [SIGNATURE | {"key": "x"}]},
        GOOD | {"comment": "x"},
    ],
)
def test_another_shape_is_refused(value):
    with pytest.raises(MalformedError):
        Envelope.parse(canonical(value), limit=20_000)


def test_bytes_that_are_not_canonical_are_refused():
    with pytest.raises(MalformedError, match="not canonical"):
        Envelope.parse(signed().to_bytes() + b"\n", limit=1000)


@pytest.mark.parametrize("signers", [["bob"], ["alice", "alice"], ["alice", "bob"]])
def test_a_document_of_one_signer_has_one_signature(signers):
    with pytest.raises(MalformedError, match="exactly one signature, by alice"):
        Envelope(PAYLOAD, [Signature(name, bytes(64)) for name in signers]).sole_signature("alice")


def test_join_sorts_the_signers():
    joined = join([signed(name="carol"), signed(name="alice")])
    assert [one.participant for one in joined.signatures] == ["alice", "carol"]
    assert joined.payload == PAYLOAD


@pytest.mark.parametrize("envelopes", [[], [signed(), signed({"b": 1}, "bob")], [signed(), signed()]])
def test_join_refuses_what_does_not_belong_together(envelopes):
    with pytest.raises(MalformedError):
        join(envelopes)
