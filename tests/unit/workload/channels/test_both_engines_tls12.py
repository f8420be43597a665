"""TLS 1.2 under a PSK, over both TLS libraries, each as client and as server.

A test that is named after a trap fails if that trap of the two libraries comes back.
"""

import hashlib
import random
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

import mcbn_workload
from mcbn_protocol.secret import Secret
from mcbn_workload.channels import errors, openssl
from mcbn_workload.channels.dtls_psk import DTLS12
from mcbn_workload.channels.engine import Engine
from mcbn_workload.channels.mbedtls import MbedDtlsPskClient, MbedDtlsPskServer, MbedTlsPskClient, MbedTlsPskServer
from mcbn_workload.channels.psk import PskEngine
from tests.unit.workload.channels.both_engines import (
    NO_LEVEL,
    OLD_SUITE,
    SECURE_RENEGOTIATION,
    Pair,
    libraries,
    old_client,
    pairs,
    reverses,
    suites,
)
from tests.unit.workload.channels.engine_pairs import (
    IDENTITY,
    KEY,
    SUITES,
    Wire,
    dtls_acceptor,
    dtls_wire,
    lookup,
    read_all,
    tls_channel,
    tls_client,
    tls_server,
)
from tests.unit.workload.channels.stream_rules import (
    assert_a_flipped_bit_breaks_the_channel_for_good,
    assert_a_replayed_record_breaks_the_channel,
    assert_close_notify_ends_one_direction_only,
    assert_closing_after_a_bad_record_is_a_failure,
    assert_truncation_is_a_failure_after_what_arrived,
    attempt,
    carry,
    shake,
)
from tests.unit.workload.channels.test_channels_tls_psk import Foreign, certificate

HANDSHAKE_FAILURE = bytes.fromhex("15030300020228")  # a fatal alert 40 in plaintext


def certificate_server(highest: int = SSL.TLS1_2_VERSION) -> Any:
    leaf, key = certificate()

    def configure(context: SSL.Context) -> None:
        context.set_max_proto_version(highest)
        context.use_certificate(leaf)
        context.use_privatekey(key)

    return Foreign(server=True, configure=configure)


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
    assert_close_notify_ends_one_direction_only(first, second)


@pairs
@pytest.mark.parametrize("cut", [0, 10], ids=["between records", "inside a record"])
def test_truncation_is_a_failure_after_what_arrived(pair: Pair, cut: int) -> None:
    assert_truncation_is_a_failure_after_what_arrived(*tls_channel(pair), cut)


@pairs
@suites
def test_a_flipped_bit_breaks_the_channel_for_good(pair: Pair, suite: str) -> None:
    assert_a_flipped_bit_breaks_the_channel_for_good(*tls_channel(pair, suite))


@pairs
def test_closing_after_a_bad_record_is_a_failure_of_the_channel(pair: Pair) -> None:
    assert_closing_after_a_bad_record_is_a_failure(*tls_channel(pair))


@pairs
def test_a_replayed_record_breaks_the_stream(pair: Pair) -> None:
    assert_a_replayed_record_breaks_the_channel(*tls_channel(pair))


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
