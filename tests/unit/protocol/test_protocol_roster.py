"""Participant cards and the roster that is built from them."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcbn_protocol import limits
from mcbn_protocol.encoding import canonical
from mcbn_protocol.errors import MalformedError, ProtocolError, RosterError, SignatureInvalidError
from mcbn_protocol.participants import (
    ParticipantCard,
    check_broker_url,
    fingerprint,
    names_this_machine,
    parse_card,
    plain_http_beyond_loopback,
    plain_http_to_a_name,
)
from mcbn_protocol.roster import Participant, Roster, build_roster
from mcbn_protocol.signatures import Envelope


@pytest.fixture
def cards(example):
    return [ParticipantCard.from_payload(example.CARDS[name]) for name in example.NAMES]


@pytest.fixture
def signed_card(cards, consent_key, release_key):
    return cards[0].sign(consent_key("alice"), release_key("alice"))


def test_the_same_cards_give_the_same_bytes_in_any_order(cards, roster):
    assert build_roster(cards[::-1], threshold=None).canonical_bytes == roster.canonical_bytes
    assert build_roster(cards, threshold=2).threshold == 2


@pytest.mark.parametrize("threshold", [0, 1, 4])
def test_a_threshold_out_of_range_is_refused(cards, threshold):
    with pytest.raises(RosterError, match="threshold"):
        build_roster(cards, threshold=threshold)


def test_a_roster_needs_cards_of_one_network(cards, example):
    other = ParticipantCard.from_payload(example.CARDS["bob"] | {"network": "net-2"})
    with pytest.raises(RosterError, match="net-1, net-2"):
        build_roster([cards[0], other], threshold=None)
    with pytest.raises(RosterError, match="no card"):
        build_roster([], threshold=None)


def test_two_cards_of_one_name_are_refused(cards):
    with pytest.raises(RosterError, match="different names"):
        build_roster([cards[0], *cards], threshold=None)


@pytest.mark.parametrize("use", ["consent_key", "release_key"])
def test_a_key_of_another_participant_is_refused(cards, use):
    copied = Participant("dave", **{"consent_key": b"c" * 32, "release_key": b"r" * 32} | {use: cards[0].consent_key})
    people = tuple(Participant(one.name, one.consent_key, one.release_key) for one in cards)
    with pytest.raises(RosterError, match="a key occurs twice"):
        Roster("net-1", (*people, copied), 3)


def test_more_than_100_participants_are_refused():
    people = tuple(
        Participant(f"p{n:03}", bytes([1]) * 31 + bytes([n]), bytes([2]) * 31 + bytes([n])) for n in range(101)
    )
    assert len(Roster("net-1", people[:100], 100).names) == 100
    with pytest.raises(RosterError, match="at most 100"):
        Roster("net-1", people, 100)


def test_who_is_not_in_the_roster_has_neither_key_nor_index(roster):
    assert [roster.share_index(name) for name in ("alice", "bob", "carol")] == [1, 2, 3]
    with pytest.raises(RosterError, match="dave is not in the roster of net-1"):
        roster.share_index("dave")


def test_a_roster_is_too_large_before_it_is_parsed():
    with pytest.raises(MalformedError, match="at most"):
        Roster.parse(b" " * (limits.ROSTER_BYTES + 1))


@given(data=st.data())
def test_any_changed_byte_of_a_roster_is_refused_or_another_roster(data, roster):
    raw = bytearray(roster.canonical_bytes)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ProtocolError):
        assert Roster.parse(bytes(raw)).hash != roster.hash


@pytest.mark.parametrize("members", [1, 101])
def test_a_roster_file_has_2_to_100_participants(example, members):
    with pytest.raises(MalformedError, match="2 to 100 items"):
        Roster.parse(canonical(example.ROSTER | {"participants": [{}] * members}))


def test_a_card_reads_back(signed_card, cards):
    assert parse_card(signed_card.to_bytes()) == cards[0]


def test_a_fingerprint_has_16_groups_of_4(cards):
    assert [len(group) for group in fingerprint(cards[0]).split(" ")] == [4] * 16
    assert len({fingerprint(card) for card in cards}) == 3


def test_one_key_for_both_uses_is_refused(example):
    with pytest.raises(RosterError, match="must differ"):
        ParticipantCard.from_payload(example.CARDS["alice"] | {"release_key": example.CARDS["alice"]["consent_key"]})


@pytest.mark.parametrize("kept", [(0,), (1,), (0, 1, 1)])
def test_a_card_carries_exactly_two_signatures(signed_card, kept):
    envelope = Envelope(signed_card.payload, [signed_card.signatures[n] for n in kept])
    with pytest.raises(MalformedError, match="two signatures by alice"):
        parse_card(envelope.to_bytes())


def test_a_card_signed_in_anothers_name_is_refused(signed_card):
    value = json.loads(signed_card.to_bytes())
    value["signatures"][0]["participant"] = "bob"
    with pytest.raises(MalformedError, match="two signatures by alice"):
        parse_card(canonical(value))


@pytest.mark.parametrize("kept", [(0, 0), (1, 1), (1, 0)])
def test_each_key_signs_its_own_card(signed_card, kept):
    envelope = Envelope(signed_card.payload, [signed_card.signatures[n] for n in kept])
    with pytest.raises(SignatureInvalidError, match="participant card"):
        parse_card(envelope.to_bytes())


def test_a_card_with_another_url_is_no_longer_signed(signed_card):
    envelope = Envelope(signed_card.payload | {"url": "https://frank.example"}, signed_card.signatures)
    with pytest.raises(SignatureInvalidError):
        parse_card(envelope.to_bytes())


@pytest.mark.parametrize(
    "change",
    [
        {"format": "mcbn-participant-v2"}, {"format": None}, {"network": "Net"}, {"name": ""}, {"url": "ftp://x"},
        {"consent_key": "AA"}, {"consent_key": 1}, {"release_key": "AQ" + "A" * 41}, {"comment": "x"},
    ],
)  # fmt: skip
def test_a_card_of_another_shape_is_refused(example, change):
    with pytest.raises(MalformedError):
        ParticipantCard.from_payload(example.CARDS["alice"] | change)


@pytest.mark.parametrize(
    "url",
    [
        "https://broker.example", "https://broker.example/", "https://broker.example:65535/base/path",
        "http://127.0.0.1:8443", "http://[::1]:8443", "https://[2001:db8::1]", "https://10.0.0.1", "https://a.example.:1",
        "https://1a.example", "https://0xg.example", "https://" + "a" * 63,
    ],
)  # fmt: skip
def test_broker_urls(url):
    assert check_broker_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "", "broker.example", "ftp://broker.example", "HTTPS://broker.example", "https://", "https:///v1",
        "https://a b",
        "https://user@broker.example", "https://user:pw@broker.example", "https://broker.example?x=1",
        "https://broker.example#x", "https://broker.example:65536", "https://broker.example:", "https://[::zz]",
        "https://[1:2]", "https://broker.example\n", "https://b\u00fccher.example", "https://a\\b",
        "https://" + "a" * 254,
        "https://256.1.1.1", "https://1.2.3.4.5", "https://0", "https://127.1", "https://0x7f.1", "https://a.1",
        "https://1.2.3.4.", "https://1234567", "https://a..b", "https://.", "https://" + "a" * 64, "https://.a",
        "https://a/" + "b" * 2048, "https://broker.example/%2e", "https://[::1]/path",
    ],
)  # fmt: skip
def test_other_urls_are_refused(url):
    with pytest.raises(MalformedError, match="URL"):
        check_broker_url(url)


@pytest.mark.parametrize(
    ("url", "back"),
    [
        ("http://127.0.0.1:1", True), ("https://127.9.9.9/x", True), ("https://[::1]", True),
        ("https://0.0.0.0", True), ("https://[::]:1", True), ("https://[::ffff:7f00:1]", True),
        ("https://LOCALHOST", True), ("https://localhost.", True), ("https://a.localhost:1", True),
        ("https://localhost.example", False), ("https://10.0.0.1", False), ("https://[2001:db8::1]", False),
        ("https://broker.example", False), ("no url", False),
    ],
)  # fmt: skip
def test_urls_that_lead_back_to_their_user(url, back):
    assert names_this_machine(url) is back


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("http://broker.example", True), ("http://localhost:1", True), ("https://broker.example", False),
        ("http://10.0.0.1", False), ("http://[::1]", False), ("no url", False),
    ],
)  # fmt: skip
def test_plain_http_to_a_name_is_told_apart(url, named):
    assert plain_http_to_a_name(url) is named


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("https://broker.example", False),
        ("http://127.0.0.1:1", False),
        ("http://127.9.9.9", False),
        ("http://[::1]:1", False),
        ("http://localhost:1", True),
        ("http://broker.example", True),
        ("http://10.0.0.1", True),
        ("http://127.0.0.1.example", True),
        ("http://0.0.0.0", True),
        ("http://127.0.0.1@broker.example", True),
        ("http://127.0.0.1\\.broker.example", True),
        ("no url", True),
    ],
)
def test_plain_http_is_at_home_on_loopback_literals_only(url, plain):
    assert plain_http_beyond_loopback(url) is plain
