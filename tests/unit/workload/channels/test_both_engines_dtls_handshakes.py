"""The handshake of DTLS 1.2 over both TLS libraries: lost, repeated, in fragments, reflected and replayed."""

import random
from collections.abc import Iterable
from typing import Any

import pytest

from mcbn_workload.channels import errors
from mcbn_workload.channels.engine import Negotiated
from tests.unit.workload.channels.both_engines import (
    CLIENT_HELLO,
    CLIENT_KEY_EXCHANGE,
    HELLO_VERIFY_REQUEST,
    SERVER_HELLO,
    SERVER_KEY_EXCHANGE,
    Pair,
    assert_alive,
    pairs,
)
from tests.unit.workload.channels.engine_pairs import (
    ADDRESS,
    MESSAGE_HEADER,
    RECORD_HEADER,
    SUITES,
    Fate,
    Wire,
    dtls_acceptor,
    dtls_channel,
    dtls_client,
    dtls_wire,
    fragment,
    message_type,
    renumbered,
    settle_all,
)
from tests.unit.workload.channels.stream_rules import attempt


@pairs
def test_trap_4_each_lost_datagram_of_a_handshake_is_made_up_for(pair: Pair) -> None:
    """Trap 4: python-mbedtls's own handshake over datagrams never retransmits."""

    def losing(direction: str, number: int) -> Any:
        return lambda at, n, datagram: () if (at, n) == (direction, number) else (datagram,)

    wires = []
    for suite in SUITES:
        whole = dtls_wire(pair, suite=suite)
        whole.settle()
        assert whole.done
        places = [(direction, number) for direction in "cs" for number in range(len(whole.sent[direction]))]
        assert len(places) >= 10
        wires += [dtls_wire(pair, losing(*place), suite=suite) for place in places]
    settle_all(wires)
    for wire in wires:
        assert_alive(wire)


@pairs
@pytest.mark.parametrize("seed", range(4))
def test_reordered_and_repeated_datagrams_of_a_handshake_do_no_harm(pair: Pair, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  # fates, not secrets
    held: dict[str, list[bytes]] = {"c": [], "s": []}

    def fate(direction: str, _number: int, datagram: bytes) -> Iterable[bytes]:
        """Deliver it once, twice, or after the next one."""
        before, held[direction] = held[direction], []
        drawn = rng.random()
        if drawn < 0.3 and not before:
            held[direction] = [datagram]
            return []
        return [datagram] * (2 if drawn < 0.6 else 1) + before

    wires = [dtls_wire(pair, fate, suite=suite) for suite in SUITES]
    for wire in wires:
        settle_all([wire])
        wire._fate = lambda _direction, _number, datagram: (datagram,)
        assert_alive(wire)


def fragmenting(cut: set[int], order: Iterable[int], overlap: int = 0) -> Fate:
    """Send the messages of these types in two fragments, in this order; every other record as it is."""

    def fate(_direction: str, _number: int, record: bytes) -> Iterable[bytes]:
        if message_type(record) not in cut:
            return [renumbered(record, 0)]
        size = len(record) - RECORD_HEADER - MESSAGE_HEADER
        bounds = ((0, size // 2 + overlap), (size // 2 - overlap, size))
        return [fragment(record, *bounds[half], number) for number, half in enumerate(order)]

    return fate


orders = pytest.mark.parametrize(
    "order",
    [(0, 1), (1, 0), (0, 0, 1, 1), (1, 1, 0, 0), (0, 1, 0, 1)],
    ids=["in order", "swapped", "repeated", "swapped and repeated", "all of it twice"],
)
FRAGMENTED = {SERVER_HELLO, HELLO_VERIFY_REQUEST, SERVER_KEY_EXCHANGE, CLIENT_KEY_EXCHANGE}


@pairs
@orders
@pytest.mark.parametrize("overlap", [0, 3], ids=["side by side", "overlapping"])
def test_a_handshake_in_fragments_comes_to_the_same_facts(pair: Pair, order: tuple[int, ...], overlap: int) -> None:
    """RFC 6347 section 4.2.3: every message in plaintext but the ClientHello, for which see the next test."""
    wire = dtls_wire(pair, fragmenting(FRAGMENTED, order, overlap))
    wire.settle()
    assert facts_of(wire) == whole_facts(pair)
    assert_alive(wire)


@pairs
@orders
def test_a_client_hello_in_fragments_gives_the_same_channel_or_none(pair: Pair, order: tuple[int, ...]) -> None:
    """Mbed TLS's server takes no such hello, and says nothing; OpenSSL's takes it with its fragments in order only."""
    wire = dtls_wire(pair, fragmenting({CLIENT_HELLO}, order))
    wire.settle()
    if pair[1] == "openssl" and order == (0, 1):
        assert facts_of(wire) == whole_facts(pair)
        assert_alive(wire)
    else:
        assert_no_channel(wire)
    assert pair[1] == "openssl" or (wire.server is None and not wire.sent["s"])


def whole_facts(pair: Pair) -> tuple[Negotiated | None, ...]:
    return tuple(end.negotiated for end in dtls_channel(pair))


def facts_of(wire: Wire) -> tuple[Negotiated | None, ...]:
    assert wire.server is not None
    return wire.client.negotiated, wire.server.negotiated


def assert_no_channel(wire: Wire) -> None:
    for end in [wire.client] if wire.server is None else [wire.client, wire.server]:
        assert end.negotiated is None
        for call in (lambda end=end: end.read(100), lambda end=end: end.write(b"secret")):
            with pytest.raises(errors.ChannelError):
                call()


def with_bytes(record: bytes, place: int, *values: int) -> bytes:
    """The same record with other bytes from this place of the handshake message on."""
    start = RECORD_HEADER + place
    return record[:start] + bytes(values) + record[start + len(values) :]


def another_last_byte(record: bytes) -> bytes:
    return record[:-1] + bytes([record[-1] ^ 1])


def contradictions(record: bytes) -> dict[str, list[bytes]]:
    """Fragments of one message that cannot all be true, by what is wrong with them."""
    size = len(record) - RECORD_HEADER - MESSAGE_HEADER
    half = size // 2
    head, tail, whole = fragment(record, 0, half, 0), fragment(record, half, size, 1), fragment(record, 0, size, 2)
    long_head = fragment(record, 0, half + 4, 0)
    return {
        "the first of two truths": [another_last_byte(long_head), tail],
        "the second of two truths": [tail, another_last_byte(long_head)],
        "another end": [head, another_last_byte(tail), whole],
        "another whole first": [another_last_byte(renumbered(record, 0)), whole],
        "another whole last": [fragment(record, 0, size, 0), another_last_byte(whole)],
        "a longer message": [head, with_bytes(tail, 1, *(size + 1).to_bytes(3)), whole],
        "a shorter message": [head, with_bytes(tail, 1, *(size - 1).to_bytes(3)), whole],
        "beyond its end": [head, with_bytes(tail, 6, *(half + 1).to_bytes(3)), whole],
        "a gap": [head, fragment(record, half + 1, size, 1)],
        "another type": [head, with_bytes(tail, 0, 11), whole],
        "huge": [with_bytes(head, 1, 0xFF, 0xFF, 0xFF), whole],
    }


@pairs
@pytest.mark.parametrize("kind", contradictions(bytes(RECORD_HEADER + MESSAGE_HEADER + 64)))
@pytest.mark.parametrize("message", [SERVER_HELLO, SERVER_KEY_EXCHANGE, CLIENT_KEY_EXCHANGE])
def test_contradictory_fragments_give_the_same_channel_or_none(pair: Pair, kind: str, message: int) -> None:
    """Frank, who is on the way, adds fragments of his own: which of them is believed decides nothing."""

    def fate(_direction: str, _number: int, record: bytes) -> Iterable[bytes]:
        return contradictions(record)[kind] if message_type(record) == message else [renumbered(record, 0)]

    wire = dtls_wire(pair, fate)
    wire.settle()
    assert message in map(message_type, wire.sent["c"] + wire.sent["s"])
    if wire.done:
        assert facts_of(wire) == whole_facts(pair)
        assert_alive(wire)
    else:
        assert_no_channel(wire)


@pairs
def test_a_reflected_datagram_flight_fails(pair: Pair) -> None:
    """A node is client in one direction and server in the other, with two keys."""
    client = dtls_client(pair[0])
    attempt(client)
    for datagram in client.outgoing():
        client.feed(datagram)
    attempt(client)
    assert client.negotiated is None
    wire = Wire(dtls_client(pair[0]), dtls_acceptor(pair[1], table={"mcbn1.reverse": b"r" * 32}))
    wire.settle()
    assert wire.server is not None
    assert isinstance(attempt(wire.server), errors.PskIdentityError)
    assert isinstance(attempt(wire.client), errors.PeerRefusedError)


@pairs
def test_the_flights_of_a_datagram_server_reflected_to_it_fail(pair: Pair) -> None:
    recorded = dtls_wire(pair)
    recorded.settle()
    server = recorded.acceptor.accept(recorded.sent["c"][1], ADDRESS)  # its cookie is as good as before
    assert server is not None
    attempt(server)
    flight = [bytes(datagram) for datagram in server.outgoing()]
    assert SERVER_HELLO in map(message_type, flight)
    for datagram in flight:
        server.feed(datagram)
    attempt(server)
    assert server.negotiated is None


@pairs
def test_a_recorded_datagram_handshake_replayed_gives_no_channel(pair: Pair) -> None:
    """From the same address, where the recorded cookie is good: the server's part is new, so Finished does not fit."""
    recorded = dtls_wire(pair)
    recorded.settle()
    assert_alive(recorded)
    server = recorded.acceptor.accept(recorded.sent["c"][1], ADDRESS)
    assert server is not None
    for datagram in recorded.sent["c"][2:]:
        server.feed(datagram)
    attempt(server)
    assert SERVER_HELLO in map(message_type, map(bytes, server.outgoing()))
    assert server.negotiated is None
