"""Sealing with both KEMs, and the binding to which a share is sealed."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcbn_protocol.binding import binding_hash
from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.errors import MalformedError, SealError
from mcbn_protocol.identifiers import Role
from mcbn_protocol.sealing import (
    _SUITES,
    PUBLIC_KEY_BYTES,
    SEALED_BYTES,
    Kem,
    RecipientKey,
    seal,
    seal_info,
)
from mcbn_protocol.shares import Share

SHARE = Share(bytes(range(32)))
INFO = seal_info(b"b" * 32, 1, 1)
KEYS = {kem: RecipientKey.from_seed(kem, b"s" * 32) for kem in Kem}
SEALED = {kem: seal(kem, KEYS[kem].public_bytes, info=INFO, share=SHARE) for kem in Kem}
each_kem = pytest.mark.parametrize("kem", Kem)

LOW_ORDER_X25519 = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ec" + "ff" * 30 + "7f"),
    bytes.fromhex("ed" + "ff" * 30 + "7f"),
    bytes.fromhex("ee" + "ff" * 30 + "7f"),
]


@given(st.sampled_from(Kem), st.binary(min_size=32, max_size=32), st.integers(1, 2**53), st.integers(1, 100))
@settings(max_examples=25)
def test_what_is_sealed_opens(kem, seed, epoch, index):
    key, info = RecipientKey.from_seed(kem, seed), seal_info(b"b" * 32, epoch, index)
    assert key.open(seal(kem, key.public_bytes, info=info, share=SHARE), info=info) == SHARE


@each_kem
def test_lengths_are_those_of_the_tables(kem):
    assert len(KEYS[kem].public_bytes) == PUBLIC_KEY_BYTES[kem]
    assert len(SEALED[kem]) == SEALED_BYTES[kem]


@each_kem
def test_sealing_twice_gives_two_texts(kem):
    assert seal(kem, KEYS[kem].public_bytes, info=INFO, share=SHARE) != SEALED[kem]


@given(st.sampled_from(Kem), st.data())
def test_any_flipped_bit_is_refused(kem, data):
    raw = bytearray(SEALED[kem])
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(SealError):
        KEYS[kem].open(bytes(raw), info=INFO)


def test_the_bit_that_x25519_ignores_is_refused_too():
    """RFC 7748 section 5 masks the top bit of a u-coordinate; HPKE hashes `enc` as it was sent."""
    raw = bytearray(SEALED[Kem.X25519])
    raw[31] ^= 0x80
    with pytest.raises(SealError):
        KEYS[Kem.X25519].open(bytes(raw), info=INFO)


@each_kem
@pytest.mark.parametrize(
    "info", [seal_info(b"c" * 32, 1, 1), seal_info(b"b" * 32, 2, 1), seal_info(b"b" * 32, 1, 2), b""]
)
def test_another_context_is_refused(kem, info):
    with pytest.raises(SealError, match="another key or for another use"):
        KEYS[kem].open(SEALED[kem], info=info)


@each_kem
def test_another_recipient_is_refused(kem):
    with pytest.raises(SealError):
        RecipientKey.from_seed(kem, b"t" * 32).open(SEALED[kem], info=INFO)


@each_kem
@pytest.mark.parametrize("length", [0, 1, -1])
def test_another_length_is_refused(kem, length):
    sealed = SEALED[kem] + b"\0" if length == 1 else SEALED[kem][: length or 0]
    with pytest.raises(SealError, match="has"):
        KEYS[kem].open(sealed, info=INFO)


def test_a_share_sealed_for_the_other_kem_is_refused():
    with pytest.raises(SealError):
        KEYS[Kem.X25519].open(SEALED[Kem.MLKEM768_X25519], info=INFO)


@each_kem
@pytest.mark.parametrize("x25519", LOW_ORDER_X25519, ids=lambda raw: raw.hex()[:8])
def test_low_order_x25519_keys_are_refused(kem, x25519):
    recipient = KEYS[kem].public_bytes[:-32] + x25519
    with pytest.raises(SealError, match="nothing can be sealed"):
        seal(kem, recipient, info=INFO, share=SHARE)


def test_an_mlkem_key_with_coefficients_beyond_the_modulus_is_refused():
    """FIPS 203 section 7.2: the encapsulation key check."""
    recipient = b"\xff" * 1184 + KEYS[Kem.MLKEM768_X25519].public_bytes[-32:]
    with pytest.raises(SealError, match="ML-KEM-768"):
        seal(Kem.MLKEM768_X25519, recipient, info=INFO, share=SHARE)


@each_kem
@pytest.mark.parametrize("recipient", [b"", b"k" * 31, b"k" * 33, b"k" * 1215, b"k" * 1217])
def test_a_recipient_key_of_another_length_is_refused(kem, recipient):
    with pytest.raises(SealError, match="recipient key has"):
        seal(kem, recipient, info=INFO, share=SHARE)


@each_kem
@pytest.mark.parametrize("seed", [b"", b"s" * 31, b"s" * 33])
def test_a_seed_of_another_length_is_refused(kem, seed):
    with pytest.raises(SealError, match="seed"):
        RecipientKey.from_seed(kem, seed)


def test_a_plaintext_that_is_no_share_is_refused(monkeypatch):
    class Broken:
        @staticmethod
        def decrypt(_sealed, _private, info):
            return b"31 bytes"

    monkeypatch.setitem(_SUITES, Kem.X25519, Broken)
    with pytest.raises(SealError, match="holds 8 bytes"):
        KEYS[Kem.X25519].open(SEALED[Kem.X25519], info=INFO)


def test_a_binding_of_another_length_seals_nothing():
    with pytest.raises(SealError, match="a binding has 32"):
        seal_info(b"b" * 31, 1, 1)


def test_a_recipient_key_shows_nothing():
    assert (b"s" * 32).hex() not in repr(KEYS[Kem.X25519])


BOUND: dict[str, Any] = {
    "roster_hash": b"r" * 32,
    "participant": "alice",
    "role": Role.CLIENT,
    "manifest_hash": b"m" * 32,
    "challenge": "A" * 55,
    "kem": Kem.X25519,
    "recipient_key": b"k" * 32,
}


@pytest.mark.parametrize(
    "change",
    [
        {"roster_hash": b"s" * 32},
        {"participant": "bob"},
        {"role": Role.SERVER},
        {"manifest_hash": b"n" * 32},
        {"challenge": "B" + "A" * 54},
        {"kem": Kem.MLKEM768_X25519, "recipient_key": b"k" * 1216},
        {"recipient_key": b"l" * 32},
    ],
)
def test_every_part_changes_the_binding(change):
    assert binding_hash(**BOUND | change) != binding_hash(**BOUND)


@pytest.mark.parametrize(
    "challenge",
    ["", "A" * 54, "A" * 56, "A" * 54 + "B", "A" * 54 + "=", "A" * 55 + "\n", "A" * 54 + "\u00e9", "A" * 53 + "+A"],
)
def test_a_challenge_of_another_shape_is_refused(challenge):
    with pytest.raises(MalformedError, match="55 base64url characters"):
        binding_hash(**BOUND | {"challenge": challenge})


@given(st.binary(min_size=41, max_size=41))
def test_every_41_bytes_make_a_challenge(raw):
    binding_hash(**BOUND | {"challenge": b64u_encode(raw)})


@pytest.mark.parametrize("change", [{"kem": Kem.MLKEM768_X25519}, {"recipient_key": b"k" * 31}])
def test_a_recipient_key_of_another_kem_is_not_bound(change):
    with pytest.raises(MalformedError, match="recipient key has"):
        binding_hash(**BOUND | change)
