"""One suite over both TLS libraries, each as client and as server: TLS 1.2 and DTLS 1.2 under a PSK.

A test that is named after a trap fails if that trap of the two libraries comes back.
"""

import gc
import hashlib
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

import mcbn_workload
from mcbn_protocol.secret import Secret
from mcbn_workload.channels import errors, mbedtls_session, openssl
from mcbn_workload.channels.dtls_psk import DTLS12, DtlsPskClient, DtlsPskEngine
from mcbn_workload.channels.engine import Engine, Negotiated
from mcbn_workload.channels.mbedtls import MbedDtlsPskClient, MbedDtlsPskServer, MbedTlsPskClient, MbedTlsPskServer
from mcbn_workload.channels.mbedtls_datagrams import RECORDS_MAX, split_records
from mcbn_workload.channels.mbedtls_session import Buffer
from mcbn_workload.channels.psk import NO_TERMS, PskClient, PskEngine, Version
from mcbn_workload.channels.tls_psk import TLS12_PSK, TlsPskClient
from tests.unit.workload.channels.engine_pairs import (
    ADDRESS,
    DEFAULT_SUITE,
    IDENTITY,
    KEY,
    LIBRARIES,
    MESSAGE_HEADER,
    PAIRS,
    RECORD_HEADER,
    SUITES,
    Fate,
    Wire,
    attempt,
    carry,
    dtls_acceptor,
    dtls_channel,
    dtls_client,
    dtls_wire,
    fragment,
    lookup,
    message_type,
    read_all,
    renumbered,
    settle_all,
    shake,
    tls_channel,
    tls_client,
    tls_server,
)
from tests.unit.workload.channels.test_channels_tls_psk import Foreign, certificate

HANDSHAKE_FAILURE = bytes.fromhex("15030300020228")  # a fatal alert 40 in plaintext
CLIENT_VERSION = slice(25, 27)  # in a DTLS ClientHello: after the headers of record and message
CLIENT_HELLO, SERVER_HELLO, HELLO_VERIFY_REQUEST, SERVER_KEY_EXCHANGE, CLIENT_KEY_EXCHANGE = 1, 2, 3, 12, 16
SECURE_RENEGOTIATION = b"\0\5\xff\1\0\1\0"  # the extension, without which OpenSSL takes no ServerHello: RFC 5746
DTLS10 = 0xFEFF  # RFC 4347
OLD_SUITE = "PSK-AES128-CBC-SHA"  # in every version since TLS 1.0: RFC 4279
NO_LEVEL = "PSK-AES128-CCM8"  # among a server's terms, it takes OpenSSL to level 0, which has no floor of its own

pairs = pytest.mark.parametrize("pair", PAIRS, ids="-to-".join)
libraries = pytest.mark.parametrize("library", LIBRARIES)
suites = pytest.mark.parametrize("suite", SUITES)
reverses = pytest.mark.parametrize("reverse", [False, True], ids=["client to server", "server to client"])
Pair = tuple[str, str]


def certificate_server(highest: int = SSL.TLS1_2_VERSION) -> Any:
    leaf, key = certificate()

    def configure(context: SSL.Context) -> None:
        context.set_max_proto_version(highest)
        context.use_certificate(leaf)
        context.use_privatekey(key)

    return Foreign(server=True, configure=configure)


def old_client(version: int, method: int = SSL.TLS_METHOD) -> Any:
    """A client of one old version, with the right identity, the right key and a suite that the version has."""
    keep = PskClient(TLS12_PSK, IDENTITY, Secret(KEY), NO_TERMS)
    callbacks = []

    def configure(context: SSL.Context) -> None:
        context.set_cipher_list(f"{OLD_SUITE}@SECLEVEL=0".encode())
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        callbacks.append(openssl.set_psk_client(context, keep._offer))

    end: Any = (Foreign if method == SSL.TLS_METHOD else ForeignDatagrams)(
        server=False, configure=configure, method=method
    )
    end.keep = callbacks  # OpenSSL refers to them
    return end


class ForeignDatagrams(Foreign):
    """The same over datagrams."""

    def outgoing(self) -> list[bytes]:
        return [record for flight in super().outgoing() for record in split_records(flight)]


@pytest.fixture
def old_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Terms may name the old suite on Mbed TLS, too, so that the floor alone can refuse an old version."""
    monkeypatch.setitem(mbedtls_session.SUITES, OLD_SUITE, ("TLS-PSK-WITH-AES-128-CBC-SHA", 0))


# TLS 1.2.


@pairs
@suites
@pytest.mark.parametrize("piece", [None, 1], ids=["whole", "byte by byte"])
def test_both_ends_agree(pair: Pair, suite: str, piece: int | None) -> None:
    client, server = tls_client(pair[0], suite=suite), tls_server(pair[1], suite=suite)
    shake(client, server, piece)
    for end in (client, server):
        facts = end.negotiated
        assert facts is not None
        assert (facts.protocol, facts.suite) == ("TLSv1.2", suite)
        assert (facts.identity, facts.max_datagram) == (IDENTITY, None)
        assert end.next_timeout() is None


@pairs
@reverses
@pytest.mark.parametrize("size", [1, 2, 16383, 16384, 16385, 65536, 100_001])
def test_trap_5_a_partial_write_says_how_much_it_took(pair: Pair, reverse: bool, size: int) -> None:
    """Trap 5: a write of 64 KiB may take 16 KiB."""
    source, sink = reversed(tls_channel(pair)) if reverse else tls_channel(pair)
    data = random.Random(size).randbytes(size)  # noqa: S311  # content, not secrets
    rest = memoryview(data)
    while rest:
        taken = source.write(rest)
        assert 0 < taken <= 16384
        rest = rest[taken:]
    carry(source, sink)
    assert b"".join(read_all(sink)) == data
    assert source.write(b"") == 0


@pairs
@suites
def test_trap_4_a_record_and_a_half_lose_nothing(pair: Pair, suite: str) -> None:
    """Trap 4: python-mbedtls's own read loses what it has decrypted, when half a record follows."""
    client, server = tls_channel(pair, suite)
    client.write(b"a" * 1000)
    first = b"".join(client.outgoing())
    client.write(b"b" * 1000)
    second = b"".join(client.outgoing())
    server.feed(first + second[:500])
    assert server.read(4000) == b"a" * 1000
    assert server.read(4000) is None
    server.feed(second[500:])
    assert server.read(4000) == b"b" * 1000


@pairs
@reverses
def test_large_transfers_in_odd_pieces(pair: Pair, reverse: bool) -> None:
    source, sink = reversed(tls_channel(pair)) if reverse else tls_channel(pair)
    rng = random.Random(1)  # noqa: S311  # sizes, not secrets
    data, sent, got, received = rng.randbytes(1_000_000), 0, hashlib.sha256(), 0
    while received < len(data):
        if sent < len(data):
            sent += source.write(memoryview(data)[sent : sent + rng.randint(1, 100_000)])
        carry(source, sink, rng.randint(1, 60_000))
        while piece := sink.read(rng.randint(1, 70_000)):
            got.update(piece)
            received += len(piece)
    assert got.digest() == hashlib.sha256(data).digest()


@pairs
def test_both_directions_at_once(pair: Pair) -> None:
    client, server = tls_channel(pair)
    for number in range(20):
        client.write(b"%d up" % number)
        server.write(b"%d down" % number)
        carry(client, server)
        carry(server, client)
        assert (server.read(99), client.read(99)) == (b"%d up" % number, b"%d down" % number)


@pairs
@reverses
def test_close_notify_ends_one_direction_only(pair: Pair, reverse: bool) -> None:
    first, second = reversed(tls_channel(pair)) if reverse else tls_channel(pair)
    first.write(b"last words")
    first.close()
    first.close()
    carry(first, second)
    second.feed_eof()
    assert second.read(100) == b"last words"
    assert second.read(100) == b""
    assert second.read(100) == b""
    with pytest.raises(errors.ChannelClosedError):
        first.write(b"more")
    second.write(b"still here")
    carry(second, first)
    assert first.read(100) == b"still here"
    second.close()
    carry(second, first)
    assert first.read(100) == b""


@pairs
@pytest.mark.parametrize("cut", [0, 10], ids=["between records", "inside a record"])
def test_truncation_is_a_failure_after_what_arrived(pair: Pair, cut: int) -> None:
    client, server = tls_channel(pair)
    client.write(b"first")
    carry(client, server)
    client.write(b"second")
    server.feed(b"".join(client.outgoing())[:cut])
    server.feed_eof()
    assert server.read(100) == b"first"
    for _ in range(2):
        with pytest.raises(errors.ChannelTruncatedError):
            server.read(100)


@pairs
@suites
def test_a_flipped_bit_breaks_the_channel_for_good(pair: Pair, suite: str) -> None:
    client, server = tls_channel(pair, suite)
    client.write(b"good")
    client.write(b"bad")
    data = bytearray(b"".join(client.outgoing()))
    data[-1] ^= 1
    server.feed(data)
    assert server.read(100) == b"good"
    for call in (lambda: server.read(100), lambda: server.write(b"x"), server.handshake):
        with pytest.raises(errors.ChannelBrokenError):
            call()
    carry(server, client)
    with pytest.raises(errors.ChannelBrokenError):
        client.read(100)


@pairs
def test_closing_after_a_bad_record_is_a_failure_of_the_channel(pair: Pair) -> None:
    """A network attacker appends it to a good one, which is read first."""
    client, server = tls_channel(pair)
    client.write(b"good")
    carry(client, server)
    server.feed(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    assert server.read(100) == b"good"
    with pytest.raises(errors.ChannelBrokenError, match="before it was closed"):
        server.close()
    with pytest.raises(errors.ChannelBrokenError):
        server.write(b"x")


@pairs
def test_a_replayed_record_breaks_the_stream(pair: Pair) -> None:
    client, server = tls_channel(pair)
    client.write(b"once")
    record = carry(client, server)
    assert server.read(100) == b"once"
    server.feed(record)
    with pytest.raises(errors.ChannelBrokenError):
        server.read(100)


@pairs
@suites
def test_a_wrong_key_is_named_locally_and_refused(pair: Pair, suite: str) -> None:
    client, server = tls_client(pair[0], suite=suite, key=b"\xff" * 32), tls_server(pair[1], suite=suite)
    shake(client, server)
    for _ in range(2):
        with pytest.raises(errors.PskMismatchError, match="holds another key"):
            server.handshake()
        with pytest.raises(errors.PeerRefusedError):
            client.handshake()
    assert (client.negotiated, server.negotiated) == (None, None)


@pairs
@pytest.mark.parametrize("wrong", ["mcbn1.other", IDENTITY.upper(), IDENTITY + "="])
def test_an_identity_must_match_exactly(pair: Pair, wrong: str) -> None:
    client, server = tls_client(pair[0], identity=wrong), tls_server(pair[1])
    shake(client, server)
    with pytest.raises(errors.PskIdentityError) as caught:
        server.handshake()
    assert wrong in str(caught.value)
    with pytest.raises(errors.PeerRefusedError):
        client.handshake()


@pairs
def test_one_listener_serves_the_keys_of_several_epochs(pair: Pair) -> None:
    table = {"mcbn1.old": b"o" * 32, "mcbn1.new": b"n" * 32}
    for name, key in table.items():
        client, server = tls_client(pair[0], identity=name, key=key), tls_server(pair[1], table=table)
        shake(client, server)
        assert server.negotiated is not None
        assert client.negotiated is not None
        assert server.negotiated.identity == client.negotiated.identity == name
    client, server = tls_client(pair[0], identity="mcbn1.old", key=b"n" * 32), tls_server(pair[1], table=table)
    shake(client, server)
    assert isinstance(attempt(server), errors.PskMismatchError)


@pairs
def test_the_peer_sees_one_alert_whatever_was_wrong(pair: Pair) -> None:
    def end_of(client: Any) -> bytes:
        server = tls_server(pair[1])
        for _ in range(4):
            attempt(client)
            carry(client, server)
            if attempt(server) is not None:
                return b"".join(server.outgoing())
            carry(server, client)
        raise AssertionError("nothing was wrong")

    def psk_only(suite: bytes, highest: int = SSL.TLS1_2_VERSION) -> Any:
        def configure(context: SSL.Context) -> None:
            context.set_max_proto_version(highest)
            context.set_cipher_list(suite)

        return Foreign(server=False, configure=configure)

    assert end_of(tls_client(pair[0], key=b"\xff" * 32)) == HANDSHAKE_FAILURE
    assert end_of(tls_client(pair[0], identity="mcbn1.other")) == HANDSHAKE_FAILURE
    assert end_of(tls_client(pair[0], suite="PSK-AES128-GCM-SHA256")) == HANDSHAKE_FAILURE
    assert end_of(psk_only(b"ECDHE-RSA-AES128-GCM-SHA256")) == HANDSHAKE_FAILURE


@libraries
def test_trap_1_a_rogue_server_with_a_certificate_is_refused(library: str) -> None:
    """Trap 1: a PSK client with default suites and no verification accepts any certificate instead of the PSK."""
    client, rogue = tls_client(library), certificate_server()
    shake(client, rogue)
    for _ in range(2):
        with pytest.raises(errors.HandshakeError):
            client.handshake()
    with pytest.raises(errors.HandshakeError):
        client.write(b"secret")
    assert client.negotiated is None
    assert rogue.failure is not None


@libraries
@pytest.mark.parametrize("suite", [0xC02F, 0xCCA8, 0x009C, 0x00AC], ids=hex)
def test_trap_1_a_suite_that_was_not_offered_is_refused(library: str, suite: int) -> None:
    """Trap 1: a rogue server insists on a suite with a certificate (0x00AC: with RSA and a PSK)."""
    client = tls_client(library)
    attempt(client)
    client.outgoing()
    body = b"\x03\x03" + b"r" * 32 + b"\0" + suite.to_bytes(2, "big") + b"\0" + SECURE_RENEGOTIATION
    message = b"\x02" + len(body).to_bytes(3, "big") + body
    client.feed(b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message)
    with pytest.raises(errors.HandshakeError):
        client.handshake()


@libraries
def test_trap_2_an_unknown_identity_never_falls_through_to_a_certificate(library: str) -> None:
    """Trap 2: a server that holds a certificate would authenticate itself with it, and nobody else."""
    server = tls_server(library)
    client: Any = Foreign(server=False, configure=lambda context: context.set_max_proto_version(SSL.TLS1_2_VERSION))
    shake(client, server)
    assert isinstance(attempt(server), errors.HandshakeError)
    assert client.failure is not None
    assert server.negotiated is None


@libraries
def test_trap_2_a_server_is_configured_without_a_certificate(library: str) -> None:
    """Trap 2: neither library's server has one to fall back on, over streams or datagrams."""
    for server in (tls_server(library), dtls_wire((library, library)).acceptor):
        connection = listening_connection(server)
        if library == "mbedtls":
            configuration = connection._buffer.context.configuration
            assert configuration.certificate_chain is None
            assert configuration.trust_store is None
        else:
            assert openssl.lib.SSL_get_certificate(connection._ssl) == openssl.ffi.NULL


def listening_connection(server: Any) -> Any:
    """What a server, over streams or datagrams, would serve the next client with."""
    return server.connection if isinstance(server, PskEngine) else server._listener()[1]


@libraries
@pytest.mark.usefixtures("old_suite")
@pytest.mark.parametrize("version", [SSL.TLS1_VERSION, SSL.TLS1_1_VERSION])
def test_trap_3_older_protocols_are_refused(library: str, version: int) -> None:
    """Trap 3: Mbed TLS's floor, where nobody sets it, is TLS 1.0. The client has all that an old server asks for."""
    client, server = old_client(version), tls_server(library, suite=OLD_SUITE, also=(NO_LEVEL,))
    client.handshake()
    assert carry(client, server)
    assert isinstance(attempt(server), errors.ProtocolRefusedError)
    (answer,) = server.outgoing()
    assert (answer[:1], answer[3:]) == (HANDSHAKE_FAILURE[:1], HANDSHAKE_FAILURE[3:])  # and no ServerHello


@libraries
@pytest.mark.usefixtures("old_suite")
def test_trap_3_the_same_client_of_the_agreed_version_completes_its_handshake(library: str) -> None:
    """Trap 3: nothing but the version is wrong with the clients that are refused for it."""
    client, server = old_client(SSL.TLS1_2_VERSION), tls_server(library, suite=OLD_SUITE, also=(NO_LEVEL,))
    shake(client, server)
    assert client.handshake()
    client = old_client(DTLS12, SSL.DTLS_METHOD)
    Wire(client, dtls_acceptor(library, suite=OLD_SUITE, also=(NO_LEVEL,))).settle()
    assert client.handshake()


def test_trap_3_mbedtls_has_its_floor_and_its_ceiling_set() -> None:
    """Trap 3: on both ends, over streams and datagrams."""
    for server, client in ((MbedTlsPskServer, MbedTlsPskClient), (MbedDtlsPskServer, MbedDtlsPskClient)):
        for end in (server(lookup())._ends.current(), client(IDENTITY, Secret(KEY))._end):
            configuration = end.context.configuration
            assert configuration.lowest_supported_version.name.endswith("v1_2")
            assert configuration.highest_supported_version is configuration.lowest_supported_version


@libraries
def test_a_newer_protocol_is_refused_on_both_ends(library: str) -> None:
    client = tls_client(library)

    def only_tls13(context: SSL.Context) -> None:
        context.set_min_proto_version(SSL.TLS1_3_VERSION)

    rogue: Any = Foreign(server=True, configure=only_tls13)
    shake(client, rogue)
    assert isinstance(attempt(client), errors.HandshakeError)
    server, newer = tls_server(library), Foreign(server=False, configure=only_tls13)
    shake(newer, server)  # type: ignore[arg-type]  # a foreign end has what this needs
    assert isinstance(attempt(server), errors.ProtocolRefusedError)


@pairs
def test_trap_8_a_short_tag_is_never_a_default(pair: Pair) -> None:
    """Trap 8: PSK-AES128-CCM8 is below OpenSSL's level 1; it and the suite without forward secrecy are terms only."""
    for suite in SUITES[1:]:
        client, server = tls_client(pair[0], suite=suite), tls_server(pair[1])
        shake(client, server)
        assert isinstance(attempt(server), errors.HandshakeError)
        assert isinstance(attempt(client), errors.PeerRefusedError)


@pairs
@pytest.mark.parametrize("flight", [0, 1, 2, 3])
def test_trap_4_a_cut_in_the_middle_of_the_handshake_never_spins(pair: Pair, flight: int) -> None:
    """Trap 4: python-mbedtls's own handshake turns for ever when the peer closes in the middle."""
    for part in (0.0, 0.5):
        client, server = tls_client(pair[0]), tls_server(pair[1])
        source, sink = client, server
        for _ in range(flight):
            attempt(source)
            carry(source, sink)
            source, sink = sink, source
        attempt(source)
        data = b"".join(source.outgoing())
        sink.feed(data[: int(len(data) * part)])
        sink.feed_eof()
        for _ in range(3):
            with pytest.raises(errors.HandshakeCutError):
                sink.handshake()
        assert sink.negotiated is None


@pytest.mark.parametrize("word", ["pickle", "wrap_socket", "TLSWrappedSocket", "DTLSWrappedSocket"])
def test_trap_4_nothing_uses_the_librarys_sockets_or_unpickles(word: str) -> None:
    """Trap 4: python-mbedtls's sockets spin, never retransmit and lose data; its buffers must not be unpickled."""
    sources = [*Path(mcbn_workload.__file__).parent.rglob("*.py")]
    assert any("TLSWrappedBuffer" in path.read_text() for path in sources)
    assert [path.name for path in sources if word in path.read_text()] == []


@libraries
@pytest.mark.parametrize(
    "junk", [b"GET / HTTP/1.1\r\nHost: far-end\r\n\r\n", b"\0" * 100, b"\x16\x03\x03\xff\xff" * 9000]
)
def test_something_that_is_not_tls_is_refused(library: str, junk: bytes) -> None:
    for end in (tls_server(library), tls_client(library)):
        attempt(end)
        end.feed(junk)
        with pytest.raises(errors.HandshakeError):
            end.handshake()


@pairs
def test_no_data_passes_before_the_handshake_is_checked(pair: Pair) -> None:
    client, server = tls_client(pair[0]), tls_server(pair[1])
    attempt(client)
    carry(client, server)
    ends: list[Engine] = [client, server]
    for end in ends:
        for call in (lambda end=end: end.read(100), lambda end=end: end.write(b"x")):
            with pytest.raises(errors.ChannelClosedError, match="not complete"):
                call()
        end.close()
        assert end.outgoing() == []


@pairs
def test_a_reflected_flight_fails(pair: Pair) -> None:
    """A node is client in one direction and server in the other, with two keys."""
    client = tls_client(pair[0])
    attempt(client)
    carry(client, client)
    assert isinstance(attempt(client), errors.HandshakeError)
    client, own_listener = tls_client(pair[0]), tls_server(pair[1], table={"mcbn1.reverse": b"r" * 32})
    shake(client, own_listener)
    assert isinstance(attempt(own_listener), errors.PskIdentityError)
    assert isinstance(attempt(client), errors.PeerRefusedError)


# DTLS 1.2.


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


def assert_alive(wire: Wire) -> None:
    assert wire.server is not None
    for source, sink in ((wire.client, wire.server), (wire.server, wire.client)):
        source.write(b"alive")
        for datagram in source.outgoing():
            sink.feed(datagram)
        assert b"alive" in read_all(sink)


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


@pairs
def test_no_error_shows_the_key(pair: Pair) -> None:
    key = b"canary-canary-canary-canary-1234"
    client, server = tls_client(pair[0], key=key), tls_server(pair[1], table={IDENTITY: KEY})
    shake(client, server)
    for end in (client, server):
        error = attempt(end)
        shown = f"{error!r} {error and error.__cause__!r} {end!r} {vars(end)!r}"
        assert "canary" not in shown
        assert key.hex() not in shown
