"""The TLS 1.3 PSK engine, two ends back to back in memory."""

import datetime as dt
import gc
import hashlib
import random
import re
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

import mcbn_workload.channels
from mcbn_protocol.secret import Secret
from mcbn_workload.channels import errors, openssl
from mcbn_workload.channels.engine import Engine
from mcbn_workload.channels.tls_psk import TlsPskServer
from mcbn_workload.errors import ConfigurationError
from tests.unit.workload.channels.stream_rules import (
    assert_a_flipped_bit_breaks_the_channel_for_good,
    assert_a_replayed_record_breaks_the_channel,
    assert_close_notify_ends_one_direction_only,
    assert_closing_after_a_bad_record_is_a_failure,
    assert_truncation_is_a_failure_after_what_arrived,
    attempt,
    carry,
    shake,
    shaken,
)

HANDSHAKE_FAILURE = bytes.fromhex("15030300020228")  # a fatal alert 40 in plaintext


def connected(psk: SimpleNamespace) -> tuple[Engine, Engine]:
    return shaken(psk.client()(), psk.server()())


def certificate() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "far-end.example")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - dt.timedelta(days=1))
    return builder.not_valid_after(now + dt.timedelta(days=1)).sign(key, hashes.SHA256()), key


class Foreign:
    """A bare OpenSSL end with a configuration that ours never has."""

    def __init__(self, *, server: bool, configure: Callable[[SSL.Context], None], method: int = SSL.TLS_METHOD) -> None:
        context = SSL.Context(method)
        configure(context)
        self.connection = SSL.Connection(context, None)
        self.connection.set_accept_state() if server else self.connection.set_connect_state()
        self.failure: Exception | None = None

    def feed(self, data: bytes) -> None:
        self.connection.bio_write(data)

    def handshake(self) -> bool:
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.Error as error:
            self.failure = self.failure or error
            return False
        return True

    def outgoing(self) -> list[bytes]:
        try:
            return [self.connection.bio_read(1 << 20)]
        except SSL.WantReadError:
            return []


def rogue_server() -> Any:
    leaf, key = certificate()

    def configure(context: SSL.Context) -> None:
        context.use_certificate(leaf)
        context.use_privatekey(key)

    return Foreign(server=True, configure=configure)


def psk_client(psk: SimpleNamespace, configure: Callable[[SSL.Context], None]) -> Any:
    """A client that holds the right key, but with foreign settings."""
    keep = psk.client()

    def both(context: SSL.Context) -> None:
        openssl.lib.SSL_CTX_set_psk_client_callback(context._context, keep._client._callback)
        configure(context)

    end = Foreign(server=False, configure=both)
    end.keep = keep  # type: ignore[attr-defined]  # OpenSSL refers to its callback
    return end


def test_both_ends_agree_on_the_known_values(psk: SimpleNamespace) -> None:
    client, server = connected(psk)
    assert client.negotiated == server.negotiated
    facts = client.negotiated
    assert facts is not None
    assert (facts.protocol, facts.suite) == ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256")
    assert (facts.group, facts.identity, facts.max_datagram) == ("X25519MLKEM768", psk.identity, None)


def test_handshake_and_data_survive_delivery_byte_by_byte(psk: SimpleNamespace) -> None:
    client, server = psk.client()(), psk.server()()
    shake(client, server, piece=1)
    client.write(b"one byte at a time")
    carry(client, server, piece=1)
    assert server.read(100) == b"one byte at a time"
    assert server.read(100) is None


def test_no_timer_runs_on_a_stream(psk: SimpleNamespace) -> None:
    client = psk.client()()
    client.on_timeout()
    assert client.next_timeout() is None
    assert client.negotiated is None


def test_wrong_key_is_named_locally_and_refused(psk: SimpleNamespace) -> None:
    client, server = psk.client(value=b"\xff" * 32)(), psk.server()()
    shake(client, server)
    with pytest.raises(errors.PskMismatchError, match="holds another key"):
        server.handshake()
    with pytest.raises(errors.PeerRefusedError):
        client.handshake()
    assert client.negotiated is None
    assert server.negotiated is None


def changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def test_a_server_flight_changed_on_the_way_is_not_taken_for_another_key(psk: SimpleNamespace) -> None:
    """The client's log would otherwise name a false cause, and spend the explanation that is due to a true one."""
    client, server = psk.client()(), psk.server()()
    attempt(client)
    carry(client, server)
    attempt(server)
    client.feed(changed(b"".join(server.outgoing())))
    failure = attempt(client)
    assert type(failure) is errors.HandshakeError
    assert "was changed on the way, or the peer holds another key" in str(failure)


def test_a_client_flight_changed_on_the_way_is_not_taken_for_another_key(psk: SimpleNamespace) -> None:
    """The binder in its first flight has shown that it holds the key."""
    client, server = psk.client()(), psk.server()()
    attempt(client)
    carry(client, server)
    attempt(server)
    carry(server, client)
    attempt(client)
    server.feed(changed(b"".join(client.outgoing())))
    failure = attempt(server)
    assert type(failure) is errors.HandshakeError
    assert "was changed on the way" in str(failure)


@pytest.mark.parametrize("wrong", ["mcbn1.other", "MCBN1.AAECAwQFBgcICQoLDA0ODw", "mcbn1.AAECAwQFBgcICQoLDA0ODw="])
def test_an_identity_must_match_exactly(psk: SimpleNamespace, wrong: str) -> None:
    client, server = psk.client(name=wrong)(), psk.server()()
    shake(client, server)
    with pytest.raises(errors.PskIdentityError, match=re.escape(wrong)):
        server.handshake()
    with pytest.raises(errors.PeerRefusedError):
        client.handshake()


def test_one_listener_serves_the_keys_of_several_epochs(psk: SimpleNamespace) -> None:
    table = {"mcbn1.old": b"o" * 32, "mcbn1.new": b"n" * 32}
    server_factory = psk.server(table)
    for name, value in table.items():
        client, server = psk.client(name, value)(), server_factory()
        shake(client, server)
        assert server.negotiated.identity == client.negotiated.identity == name
    client, server = psk.client("mcbn1.old", b"n" * 32)(), server_factory()
    shake(client, server)
    with pytest.raises(errors.PskMismatchError):
        server.handshake()


def test_the_peer_sees_one_alert_whatever_was_wrong(psk: SimpleNamespace) -> None:
    def tls12(context: SSL.Context) -> None:
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(b"ECDHE-PSK-CHACHA20-POLY1305")

    ends = {
        "wrong key": psk.client(value=b"\xff" * 32)(),
        "wrong identity": psk.client(name="mcbn1.other")(),
        "no psk": Foreign(server=False, configure=lambda context: None),
        "old protocol": psk_client(psk, tls12),
        "other suite": psk_client(psk, lambda c: c.set_tls13_ciphersuites(b"TLS_AES_256_GCM_SHA384")),
    }
    for name, client in ends.items():
        server = psk.server()()
        client.handshake()
        carry(client, server)
        assert isinstance(attempt(server), errors.HandshakeError), name
        assert b"".join(server.outgoing()) == HANDSHAKE_FAILURE, name
        assert server.outgoing() == [], name


def test_the_cause_of_a_failing_lookup_is_kept(psk: SimpleNamespace) -> None:
    def broken(_identity: bytes) -> Secret:
        raise LookupError("the epoch is gone")

    client, server = psk.client()(), TlsPskServer(broken)()
    shake(client, server)
    with pytest.raises(errors.PskIdentityError) as caught:
        server.handshake()
    assert "LookupError" in str(caught.value)


def test_a_key_of_another_length_is_refused(psk: SimpleNamespace) -> None:
    with pytest.raises(ConfigurationError, match="32 bytes"):
        psk.client(value=b"short")
    client, server = psk.client()(), TlsPskServer(lambda _identity: Secret(b"k" * 31))()
    shake(client, server)
    with pytest.raises(errors.PskIdentityError):
        server.handshake()


@pytest.mark.parametrize("name", ["", "x" * 129, "tab\t", "nul\0", "é"])
def test_an_identity_of_another_shape_is_refused(psk: SimpleNamespace, name: str) -> None:
    with pytest.raises(ConfigurationError, match="PSK identity"):
        psk.client(name=name)


def test_rogue_server_with_a_certificate_and_no_psk_is_refused(psk: SimpleNamespace) -> None:
    client, rogue = psk.client()(), rogue_server()
    shake(client, rogue)
    with pytest.raises(errors.PeerNotAuthenticatedError, match="showed a certificate"):
        client.handshake()
    with pytest.raises(errors.PeerNotAuthenticatedError):
        client.write(b"secret")
    assert client.negotiated is None


def test_rogue_server_is_refused_even_if_the_library_accepts_it(psk: SimpleNamespace) -> None:
    factory = psk.client()
    factory.context.set_verify(SSL.VERIFY_NONE)
    client, rogue = factory(), rogue_server()
    attempt(client)
    carry(client, rogue)
    rogue.handshake()
    client.feed(b"".join(rogue.outgoing()))
    with pytest.raises(errors.PeerNotAuthenticatedError, match="without the PSK"):
        client.handshake()


def test_rogue_server_without_certificate_or_key_is_refused(psk: SimpleNamespace) -> None:
    rogue = psk.server({"mcbn1.else": b"e" * 32})()
    client = psk.client()()
    shake(client, rogue)
    with pytest.raises(errors.PeerRefusedError):
        client.handshake()


def test_no_data_passes_before_the_handshake_is_checked(psk: SimpleNamespace) -> None:
    """OpenSSL's read and write would complete a handshake by themselves."""
    client, server = psk.client()(), psk.server()()
    attempt(client)
    server.feed(b"".join(client.outgoing()))
    for end in (client, server):
        for call in (lambda end=end: end.read(100), lambda end=end: end.write(b"x")):
            with pytest.raises(errors.ChannelClosedError, match="not complete"):
                call()
        end.close()
        assert end.outgoing() == []


def test_a_server_never_holds_a_certificate(psk: SimpleNamespace) -> None:
    server = psk.server()()
    assert openssl.lib.SSL_get_certificate(server.connection._ssl) == openssl.ffi.NULL
    client: Any = Foreign(server=False, configure=lambda context: None)
    shake(client, server)
    with pytest.raises(errors.PeerNotAuthenticatedError, match="no PSK"):
        server.handshake()
    assert client.failure is not None


def test_only_mutual_tls_loads_a_certificate_and_nothing_has_a_key_log() -> None:
    folder = Path(mcbn_workload.channels.__file__).parent
    texts = {path.name: path.read_text().lower() for path in folder.glob("*.py")}
    assert {name for name, text in texts.items() if "openssl.set_psk" in text} == {"psk.py"}
    for word in (".use_certificate", ".use_privatekey"):
        assert {name for name, text in texts.items() if word in text} == {"mutual_tls.py"}
    assert "set_psk" not in texts["mutual_tls.py"]
    assert not any("keylog" in text for text in texts.values())


def test_a_reflected_client_flight_fails(psk: SimpleNamespace) -> None:
    client = psk.client()()
    attempt(client)
    client.feed(b"".join(client.outgoing()))
    with pytest.raises(errors.HandshakeError):
        client.handshake()


def test_a_flight_reflected_to_the_nodes_own_listener_fails(psk: SimpleNamespace) -> None:
    """A node that is client in one direction and server in the other holds two keys with two identities."""
    client, own_listener = psk.client()(), psk.server({"mcbn1.reverse": b"r" * 32})()
    shake(client, own_listener)
    with pytest.raises(errors.PskIdentityError):
        own_listener.handshake()
    with pytest.raises(errors.PeerRefusedError):
        client.handshake()


def test_a_reflected_server_flight_fails(psk: SimpleNamespace) -> None:
    client, server = psk.client()(), psk.server()()
    attempt(client)
    carry(client, server)
    attempt(server)
    server.feed(b"".join(server.outgoing()))
    with pytest.raises(errors.HandshakeError):
        server.handshake()


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_1_VERSION, SSL.TLS1_VERSION])
def test_older_protocols_are_refused(psk: SimpleNamespace, version: int) -> None:
    def configure(context: SSL.Context) -> None:
        context.set_cipher_list(b"ALL:PSK:@SECLEVEL=0")
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)

    client, server = psk_client(psk, configure), psk.server()()
    client.handshake()
    assert carry(client, server)
    assert isinstance(attempt(server), errors.ProtocolRefusedError)
    (answer,) = server.outgoing()
    assert (answer[:1], answer[3:]) == (HANDSHAKE_FAILURE[:1], HANDSHAKE_FAILURE[3:])  # and no ServerHello


def test_a_client_with_only_a_sha384_suite_is_refused(psk: SimpleNamespace) -> None:
    client = psk_client(psk, lambda context: context.set_tls13_ciphersuites(b"TLS_AES_256_GCM_SHA384"))
    server = psk.server()()
    shake(client, server)
    assert isinstance(attempt(server), errors.ProtocolRefusedError)


def test_a_client_with_only_aes_128_gcm_is_served(psk: SimpleNamespace) -> None:
    client = psk_client(psk, lambda context: context.set_tls13_ciphersuites(b"TLS_AES_128_GCM_SHA256"))
    server = psk.server()()
    shake(client, server)
    assert server.negotiated.suite == "TLS_AES_128_GCM_SHA256"


def test_a_psk_without_diffie_hellman_is_neither_offered_nor_accepted(psk: SimpleNamespace) -> None:
    client, server = psk.client()(), psk.server()()
    attempt(client)
    hello = b"".join(client.outgoing())
    modes = bytes.fromhex("002d00020101")  # extension 45, one mode: psk_dhe_ke (RFC 8446 section 4.2.9)
    assert hello.count(modes) == 1
    server.feed(hello.replace(modes, modes[:-1] + b"\0"))
    with pytest.raises(errors.PeerNotAuthenticatedError, match="psk_dhe_ke"):
        server.handshake()


def test_something_that_is_not_tls_is_refused(psk: SimpleNamespace) -> None:
    server = psk.server()()
    server.feed(b"GET / HTTP/1.1\r\nHost: far-end\r\n\r\n")
    with pytest.raises(errors.ProtocolRefusedError):
        server.handshake()


def test_the_end_of_the_transport_during_the_handshake_is_a_failure(psk: SimpleNamespace) -> None:
    client = psk.client()()
    assert client.handshake() is False
    client.feed_eof()
    with pytest.raises(errors.HandshakeCutError):
        client.handshake()


@pytest.mark.parametrize("cut", [0, 10], ids=["between records", "inside a record"])
def test_truncation_is_a_failure_after_what_arrived(psk: SimpleNamespace, cut: int) -> None:
    assert_truncation_is_a_failure_after_what_arrived(*connected(psk), cut)


@pytest.mark.parametrize("reverse", [False, True])
def test_close_notify_ends_one_direction_only(psk: SimpleNamespace, reverse: bool) -> None:
    first, second = reversed(connected(psk)) if reverse else connected(psk)
    assert_close_notify_ends_one_direction_only(first, second)


def test_a_flipped_bit_breaks_the_channel_for_good(psk: SimpleNamespace) -> None:
    told = assert_a_flipped_bit_breaks_the_channel_for_good(*connected(psk))
    assert "alert" in str(told)


def test_closing_after_a_bad_record_is_a_failure_of_the_channel(psk: SimpleNamespace) -> None:
    assert_closing_after_a_bad_record_is_a_failure(*connected(psk))


def test_a_replayed_record_breaks_the_channel(psk: SimpleNamespace) -> None:
    assert_a_replayed_record_breaks_the_channel(*connected(psk))


@pytest.mark.parametrize("reverse", [False, True])
def test_large_transfers_with_partial_writes_and_odd_pieces(psk: SimpleNamespace, reverse: bool) -> None:
    source, sink = reversed(connected(psk)) if reverse else connected(psk)
    rng = random.Random(1)  # noqa: S311  # sizes, not secrets
    data, sent, got = rng.randbytes(3_000_000), 0, hashlib.sha256()
    received = 0
    while received < len(data):
        if sent < len(data):
            taken = source.write(memoryview(data)[sent : sent + rng.randint(1, 100_000)])
            assert taken > 0
            sent += taken
        carry(source, sink)
        while piece := sink.read(rng.randint(1, 70_000)):
            got.update(piece)
            received += len(piece)
    assert got.digest() == hashlib.sha256(data).digest()


@given(data=st.binary(min_size=1, max_size=40_000), piece=st.integers(1, 20_000), size=st.integers(1, 70_000))
def test_any_split_gives_the_same_bytes(psk: SimpleNamespace, data: bytes, piece: int, size: int) -> None:
    client, server = connected(psk)
    rest = memoryview(data)
    while rest:
        rest = rest[client.write(rest) :]
    carry(client, server, piece)
    assert b"".join(iter(lambda: server.read(size) or b"", b"")) == data


def test_an_empty_write_is_nothing(psk: SimpleNamespace) -> None:
    client, _server = connected(psk)
    assert client.write(b"") == 0
    assert client.outgoing() == []


def test_engines_outlive_the_last_reference_to_their_factory(psk: SimpleNamespace) -> None:
    client, server = psk.client()(), psk.server()()
    gc.collect()
    shake(client, server)
    assert server.negotiated is not None


@pytest.mark.usefixtures("no_garbage_collector")
def test_a_failed_engine_is_freed_with_its_last_reference(psk: SimpleNamespace) -> None:
    server_factory = psk.server()
    client, server = psk.client(value=b"\xff" * 32)(), server_factory()
    shake(client, server)
    assert isinstance(attempt(server), errors.PskMismatchError)
    alive = weakref.ref(server)
    del server
    assert alive() is None
    assert len(server_factory._server().engines) == 0


@pytest.mark.parametrize("lacking", ["Cryptography_HAS_PSK", "Cryptography_HAS_PSK_TLSv1_3"])
def test_a_library_without_external_psks_is_refused(monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    features = {"Cryptography_HAS_PSK": 1, "Cryptography_HAS_PSK_TLSv1_3": 1}
    monkeypatch.setattr(openssl, "lib", SimpleNamespace(**features | {lacking: 0}))
    with pytest.raises(errors.EngineUnavailableError, match="cryptography"):
        openssl.require_psk()


def test_no_error_shows_the_key(psk: SimpleNamespace) -> None:
    key = b"canary-canary-canary-canary-1234"
    client, server = psk.client(value=key)(), psk.server()()
    shake(client, server)
    for end in (client, server):
        error = attempt(end)
        assert error is not None
        chain = f"{error!r} {error.__cause__!r} {end!r}"
        assert key.hex() not in chain
        assert "canary" not in chain
