"""DTLS 1.2 under a PSK, over both TLS libraries: datagrams, cookies, and who is refused.

A test that is named after a trap fails if that trap of the two libraries comes back.
"""

import gc
from collections.abc import Iterable
from typing import Any

import pytest
from OpenSSL import SSL

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import errors, openssl
from mcbn_workload.channels.dtls_psk import DTLS12, DtlsPskClient, DtlsPskEngine
from mcbn_workload.channels.engine import Engine
from mcbn_workload.channels.mbedtls_datagrams import RECORDS_MAX
from mcbn_workload.channels.mbedtls_session import Buffer
from mcbn_workload.channels.psk import Version
from mcbn_workload.channels.tls_psk import TLS12_PSK, TlsPskClient
from tests.unit.workload.channels.both_engines import (
    NO_LEVEL,
    OLD_SUITE,
    SECURE_RENEGOTIATION,
    SERVER_HELLO,
    ForeignDatagrams,
    Pair,
    assert_alive,
    libraries,
    old_client,
    pairs,
    reverses,
    suites,
)
from tests.unit.workload.channels.engine_pairs import (
    ADDRESS,
    DEFAULT_SUITE,
    IDENTITY,
    KEY,
    RECORD_HEADER,
    SUITES,
    Wire,
    dtls_acceptor,
    dtls_channel,
    dtls_client,
    dtls_wire,
    message_type,
    read_all,
    tls_server,
)
from tests.unit.workload.channels.stream_rules import attempt, carry, shake

CLIENT_VERSION = slice(25, 27)  # in a DTLS ClientHello: after the headers of record and message
DTLS10 = 0xFEFF  # RFC 4347


@pairs
@suites
@pytest.mark.parametrize("mtu", [512, 1400, 9000])
def test_datagrams_of_every_size(pair: Pair, suite: str, mtu: int) -> None:
    client, server = dtls_channel(pair, suite, mtu=mtu)
    for source, sink in ((client, server), (server, client)):
        facts = source.negotiated
        assert facts is not None
        assert facts.max_datagram is not None
        assert (facts.protocol, facts.suite, facts.identity) == ("DTLSv1.2", suite, IDENTITY)
        assert source.next_timeout() is None
        for size in (1, 2, 100, facts.max_datagram - 1, facts.max_datagram):
            assert source.write(b"x" * size) == size
            (datagram,) = source.outgoing()
            assert len(datagram) <= mtu
            sink.feed(datagram)
            assert sink.read(1 << 14) == b"x" * size
        assert len(datagram) == mtu
    assert client.negotiated is not None
    assert server.negotiated is not None
    assert client.negotiated.max_datagram == server.negotiated.max_datagram


@pairs
@reverses
def test_trap_6_what_does_not_fit_is_refused_and_the_channel_goes_on(pair: Pair, reverse: bool) -> None:
    """Traps 4 and 6: OpenSSL drops a write above the MTU without a word; of Mbed TLS it ends the session."""
    source, sink = reversed(dtls_channel(pair)) if reverse else dtls_channel(pair)
    assert source.negotiated is not None
    assert source.negotiated.max_datagram is not None
    for size in (0, source.negotiated.max_datagram + 1, 1 << 14, 1 << 16):
        with pytest.raises(errors.ChannelLimitError, match="fit in one"):
            source.write(b"x" * size)
    assert source.outgoing() == []
    source.write(b"fits")
    carry(source, sink)
    assert sink.read(100) == b"fits"


@pairs
@reverses
def test_trap_6_several_datagrams_at_once_lose_nothing(pair: Pair, reverse: bool) -> None:
    """Trap 6: a library that is given several datagrams at once takes them for one."""
    source, sink = reversed(dtls_channel(pair)) if reverse else dtls_channel(pair)
    for number in range(20):
        source.write(b"%d" % number)
    for datagram in source.outgoing():
        sink.feed(datagram)
    assert read_all(sink) == [b"%d" % number for number in range(20)]


@pairs
def test_a_datagram_for_which_there_is_no_room_is_dropped_whole(pair: Pair) -> None:
    client, server = dtls_channel(pair)
    for data in (b"x" * 100, b"short"):
        client.write(data)
        for datagram in client.outgoing():
            server.feed(datagram)
    assert server.read(99) == b"short"
    assert server.read(99) is None


@pairs
@reverses
@suites
def test_forged_and_replayed_datagrams_are_never_delivered(pair: Pair, reverse: bool, suite: str) -> None:
    source, sink = reversed(dtls_channel(pair, suite)) if reverse else dtls_channel(pair, suite)
    source.write(b"genuine")
    (genuine,) = source.outgoing()
    for place in range(len(genuine)):
        forged = bytearray(genuine)
        forged[place] ^= 1
        sink.feed(forged)
        assert sink.read(100) is None
    for junk in (b"", b"x", genuine[:12], genuine[:-1], b"\x17\xfe\xfd" + b"\xff" * 60_000):
        sink.feed(junk)
        assert sink.read(100) is None
    for _ in range(3):
        sink.feed(genuine)
    assert sink.read(100) == b"genuine"
    assert sink.read(100) is None
    source.write(b"next")
    source.write(b"and next")
    for datagram in [*reversed(source.outgoing()), genuine]:
        sink.feed(datagram)
    assert read_all(sink) == [b"and next", b"next"]


@pairs
@reverses
def test_close_notify_ends_a_datagram_channel(pair: Pair, reverse: bool) -> None:
    first, second = reversed(dtls_channel(pair)) if reverse else dtls_channel(pair)
    first.write(b"last words")
    first.close()
    first.close()
    for datagram in first.outgoing():
        second.feed(datagram)
    assert read_all_until_closed(second) == [b"last words"]
    with pytest.raises(errors.ChannelClosedError):
        first.write(b"more")
    second.close()
    for datagram in second.outgoing():
        first.feed(datagram)
    assert first.read(100) == b""


def read_all_until_closed(engine: Engine) -> list[bytes]:
    got = list(iter(lambda: engine.read(1 << 14), b""))
    assert engine.read(1 << 14) == b""
    return [data for data in got if data]


@libraries
def test_trap_10_a_stranger_costs_nothing_before_its_cookie(library: str) -> None:
    """Traps 4 and 10: a HelloVerifyRequest first; state only for who received it."""
    acceptor = dtls_acceptor(library)
    engines = sum(isinstance(one, DtlsPskEngine) for one in gc.get_objects())
    for number in range(300):
        hello = first_flight(library)
        assert acceptor.accept(hello, b"address %d" % number) is None
        (answer,) = acceptor.outgoing()
        assert len(answer) <= len(hello)
        assert answer[RECORD_HEADER] == 3  # HelloVerifyRequest
        assert acceptor.outgoing() == []
    assert sum(isinstance(one, DtlsPskEngine) for one in gc.get_objects()) == engines


@pairs
def test_a_cookie_is_for_one_address(pair: Pair) -> None:
    acceptor, client = dtls_acceptor(pair[1]), dtls_client(pair[0])
    attempt(client)
    (hello,) = client.outgoing()
    assert acceptor.accept(hello, ADDRESS) is None
    for answer in acceptor.outgoing():
        client.feed(answer)
    attempt(client)
    (second,) = client.outgoing()
    assert second != hello
    assert acceptor.accept(second, b"another address") is None
    assert all(len(answer) <= len(second) for answer in acceptor.outgoing())
    other = dtls_acceptor(pair[1])
    assert other.accept(second, ADDRESS) is None
    assert acceptor.accept(second, ADDRESS) is not None


@libraries
def test_junk_gets_no_engine_and_no_larger_answer(library: str) -> None:
    acceptor, hello = dtls_acceptor(library), first_flight(library)
    foreign = first_flight(library, suite="PSK-AES128-CCM8")
    strange = [hello[:size] for size in range(len(hello))]
    strange += [hello[:place] + b"\xff" + hello[place + 1 :] for place in range(len(hello))]
    strange += [foreign, hello * 3, hello + b"\x16" * 40_000, b"\x16\xfe\xfd\0\0" + b"\1" * 60_000, b"", b"\0" * 100]
    for datagram in strange:
        assert acceptor.accept(datagram, ADDRESS) is None
        assert sum(map(len, acceptor.outgoing())) <= len(datagram)
    wire = Wire(dtls_client(library), acceptor)
    wire.settle()
    assert wire.done


def first_flight(library: str, *, suite: str = DEFAULT_SUITE) -> bytes:
    client = dtls_client(library, suite=suite)
    attempt(client)
    (hello,) = client.outgoing()
    return bytes(hello)


@libraries
@pytest.mark.parametrize("datagrams", [False, True])
def test_a_peer_that_prefers_no_forward_secrecy_gets_it_all_the_same(
    library: str, datagrams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = "PSK-AES128-GCM-SHA256"
    acceptor, server = dtls_acceptor(library, suite=old), tls_server(library, suite=old)
    with monkeypatch.context() as patched:
        patched.setattr(Version, "allowed", lambda _self, _terms: (old, DEFAULT_SUITE))
        over_datagrams = DtlsPskClient(IDENTITY, Secret(KEY))()
        client = TlsPskClient(IDENTITY, Secret(KEY), version=TLS12_PSK)()
    if datagrams:
        wire = Wire(over_datagrams, acceptor)
        wire.settle()
        assert wire.server is not None
        agreed = wire.server.negotiated
    else:
        shake(client, server)
        agreed = server.negotiated
    assert agreed is not None
    assert agreed.suite == DEFAULT_SUITE


@pytest.mark.parametrize("established", [False, True])
def test_a_datagram_full_of_tiny_records_takes_few_turns_of_mbedtls(
    established: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = dtls_wire(("mbedtls", "mbedtls"))
    if established:
        wire.settle()
    turns: list[int] = []
    genuine = Buffer.receive_from_network

    def counted(buffer: Buffer, data: bytes) -> None:
        turns.append(len(data))
        genuine(buffer, data)

    monkeypatch.setattr(Buffer, "receive_from_network", counted)
    kind = b"\x17\xfe\xfd\0\1" if established else b"\x16\xfe\xfd\0\0"
    datagram = b"".join(kind + number.to_bytes(6) + b"\0\1\1" for number in range(1000))
    if wire.server is None:
        assert wire.acceptor.accept(datagram, b"a stranger") is None
    else:
        wire.server.feed(datagram)
        assert wire.server.read(100) is None
    assert 0 < len(turns) <= 2 * RECORDS_MAX
    wire.settle()
    assert_alive(wire)


@pairs
def test_a_new_hello_from_the_same_address_does_not_end_a_channel(pair: Pair) -> None:
    """Mbed TLS would take it for a reconnection; whoever sends from that address could end the channel."""
    wire = dtls_wire(pair)
    wire.settle()
    assert wire.server is not None
    for hello in (first_flight(pair[0]), wire.sent["c"][0], wire.sent["c"][1]):
        wire.server.feed(hello)
        assert wire.server.read(100) is None
        assert wire.server.outgoing() == []
    for alert in (b"\x15\xfe\xfd" + b"\0" * 7 + b"\x50" + b"\0\2" + level for level in (b"\2\x28", b"\1\0")):
        for end in (wire.client, wire.server):
            end.feed(alert)
            assert end.read(100) is None
    assert_alive(wire)


@pairs
@suites
def test_a_wrong_key_over_datagrams_is_explained(pair: Pair, suite: str) -> None:
    wire = Wire(dtls_client(pair[0], suite=suite, key=b"\xff" * 32), dtls_acceptor(pair[1], suite=suite))
    wire.settle()
    assert wire.server is not None
    assert (wire.client.negotiated, wire.server.negotiated) == (None, None)
    assert isinstance(attempt(wire.server) or wire.server.stalled(), errors.PskMismatchError)
    assert isinstance(
        attempt(wire.client) or wire.client.stalled(), errors.HandshakeTimeoutError | errors.PeerRefusedError
    )


@pairs
def test_an_unknown_identity_over_datagrams_is_refused(pair: Pair) -> None:
    wire = Wire(dtls_client(pair[0], identity="mcbn1.other"), dtls_acceptor(pair[1]))
    wire.settle()
    assert wire.server is not None
    assert isinstance(attempt(wire.server), errors.PskIdentityError)
    assert isinstance(attempt(wire.client), errors.PeerRefusedError)
    assert wire.sent["s"][-1][RECORD_HEADER:] == b"\2\x28"  # the same alert as over TLS
    assert wire.client.next_timeout() is None
    assert wire.server.next_timeout() is None


@pairs
def test_trap_8_over_datagrams_other_suites_are_terms_only(pair: Pair) -> None:
    """Trap 8: PSK-AES128-CCM8 is for interoperation."""
    for suite in SUITES[1:]:
        wire = Wire(dtls_client(pair[0], suite=suite), dtls_acceptor(pair[1]))
        wire.settle()
        assert isinstance(attempt(wire.client), errors.PeerRefusedError)


@libraries
@pytest.mark.usefixtures("old_suite")
def test_trap_3_an_older_datagram_protocol_is_refused(library: str) -> None:
    """Trap 3: Mbed TLS's floor, where nobody sets it, is DTLS 1.0. The client has all that an old server asks for."""
    client = old_client(DTLS10, SSL.DTLS_METHOD)
    wire = Wire(client, dtls_acceptor(library, suite=OLD_SUITE, also=(NO_LEVEL,)))
    wire.settle()
    assert not client.handshake()
    assert SERVER_HELLO not in map(message_type, wire.sent["s"])
    assert wire.server is None or isinstance(attempt(wire.server), errors.ProtocolRefusedError)


@pairs
def test_a_hello_that_was_made_older_on_the_way_is_refused(pair: Pair) -> None:
    def older(direction: str, _number: int, datagram: bytes) -> Iterable[bytes]:
        hello = bytearray(datagram)
        if direction == "c" and hello[RECORD_HEADER] == 1:
            hello[CLIENT_VERSION] = b"\xfe\xff"
        return [bytes(hello)]

    wire = dtls_wire(pair, older)
    wire.settle()
    assert wire.client.negotiated is None
    assert wire.server is None or isinstance(attempt(wire.server), errors.HandshakeError)


@libraries
@pytest.mark.parametrize(
    ("version", "suite"),
    [(DTLS12, 0xC02F), (DTLS12, 0xC037), (DTLS12, 0x008C), (DTLS12, 0x00AE), (DTLS10, 0x008C), (DTLS10, 0xCCAC)],
    ids=["certificate", "ECDHE-PSK CBC", "PSK CBC", "PSK CBC SHA-256", "DTLS 1.0", "DTLS 1.0, the agreed suite"],
)
def test_trap_1_a_rogue_datagram_server_is_refused(library: str, version: int, suite: int) -> None:
    """Trap 1, over datagrams: a server that insists on a suite with a certificate, on CBC, or on an older version."""
    client = dtls_client(library)
    attempt(client)
    client.outgoing()
    client.feed(server_hello(version, suite))
    with pytest.raises(errors.HandshakeError):
        client.handshake()
    assert client.negotiated is None


def server_hello(version: int, suite: int) -> bytes:
    body = version.to_bytes(2) + b"r" * 32 + b"\0" + suite.to_bytes(2) + b"\0" + SECURE_RENEGOTIATION
    message = b"\x02" + len(body).to_bytes(3) + b"\0\0" + b"\0\0\0" + len(body).to_bytes(3) + body
    return b"\x16" + version.to_bytes(2) + b"\0" * 8 + len(message).to_bytes(2) + message


@libraries
def test_the_agreed_server_hello_is_what_a_client_waits_for(library: str) -> None:
    """Nothing but version and suite is wrong with what the rogue servers say."""
    client = dtls_client(library)
    attempt(client)
    client.outgoing()
    client.feed(server_hello(DTLS12, 0xCCAC))
    assert not client.handshake()


def datagram_server(version: int, suite: str) -> Any:
    """A foreign server of one version and one suite, with the right key for everybody."""
    callbacks = []

    def choose(_ssl: Any, _identity: Any, psk: Any, _room: int) -> int:
        openssl.ffi.memmove(psk, KEY, len(KEY))
        return len(KEY)

    def configure(context: SSL.Context) -> None:
        context.set_cipher_list(f"{suite}@SECLEVEL=0".encode())
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        callbacks.append(openssl.set_psk_server(context, choose))

    end: Any = ForeignDatagrams(server=True, configure=configure, method=SSL.DTLS_METHOD)
    end.keep = callbacks  # OpenSSL refers to them
    return end


@libraries
@pytest.mark.parametrize(
    ("version", "suite"),
    [(DTLS12, "ECDHE-PSK-AES128-CBC-SHA256"), (DTLS12, OLD_SUITE), (DTLS12, SUITES[1]), (DTLS10, OLD_SUITE)],
)
def test_a_datagram_server_of_another_suite_or_version_gets_no_channel(library: str, version: int, suite: str) -> None:
    """It has the right key: one of the agreed suite and version gets a channel."""
    client, agreed = dtls_client(library), datagram_server(DTLS12, DEFAULT_SUITE)
    shake(client, agreed)
    assert client.negotiated is not None
    client, other = dtls_client(library), datagram_server(version, suite)
    shake(client, other)
    assert isinstance(attempt(client), errors.PeerRefusedError)
    assert client.negotiated is None


@pairs
def test_no_datagram_passes_before_the_handshake_is_checked(pair: Pair) -> None:
    client = dtls_client(pair[0])
    for call in (lambda: client.read(100), lambda: client.write(b"x")):
        with pytest.raises(errors.ChannelClosedError, match="not complete"):
            call()
