"""The engine of mutual TLS, two ends back to back in memory."""

import datetime as dt
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto

from mcbn_protocol.identifiers import Role
from mcbn_protocol.rsa_schemes import RsaScheme
from mcbn_protocol.secret import Secret
from mcbn_workload.channels import errors, mutual_tls, openssl
from mcbn_workload.channels.certificates import Credentials, Validity, credentials, derived_authority
from mcbn_workload.channels.mutual_tls import MutualTlsClient, MutualTlsKeys, MutualTlsServer
from mcbn_workload.channels.peer_certificate import set_signatures
from mcbn_workload.rsa_keys import derive_rsa_key, spki_sha256

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
VALIDITY = Validity(NOW, NOW + DAY)
OTHER = {Role.SERVER: Role.CLIENT, Role.CLIENT: Role.SERVER}


def ed25519(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


KEYS: dict[Role | str, Any] = {Role.SERVER: ed25519(1), Role.CLIENT: ed25519(2), "ca": ed25519(3), "other": ed25519(4)}
SECOND: dict[Role | str, Any] = {Role.SERVER: ed25519(11), Role.CLIENT: ed25519(12), "ca": ed25519(13)}


@pytest.fixture(scope="module")
def rsa() -> dict[Role | str, Any]:
    def key(number: int) -> Any:
        return derive_rsa_key(RsaScheme.C2SP_DET_KEYGEN, Secret(bytes([number]) * 32), 2048)

    return {Role.SERVER: key(1), Role.CLIENT: key(2), "ca": key(3)}


def shown_by(role: Role, keys: Any = KEYS, **changes: Any) -> Credentials:
    chosen = keys | changes
    names = ["far-end.example"]
    return credentials(role, chosen[role], derived_authority(chosen["ca"], VALIDITY), names=names, validity=VALIDITY)


def end(role: Role, keys: Any = KEYS, shown: Credentials | None = None) -> MutualTlsKeys:
    return MutualTlsKeys(shown or shown_by(role, keys), keys[OTHER[role]].public_key())


def client(keys: Any = KEYS, shown: Credentials | None = None) -> Any:
    return MutualTlsClient(end(Role.CLIENT, keys, shown))()


def server(*epochs: Any, shown: Credentials | None = None) -> Any:
    """A server's engine; the newest epoch comes first."""
    live = [end(Role.SERVER, keys, shown) for keys in epochs or (KEYS,)]
    return MutualTlsServer(lambda: live)()


def attempt(engine: Any) -> Exception | None:
    try:
        engine.handshake()
    except errors.ChannelError as error:
        return error
    return None


def shake(one: Any, other: Any, piece: int = 1 << 20) -> None:
    for _ in range(4):
        for source, sink in ((one, other), (other, one)):
            attempt(source)
            data = b"".join(source.outgoing())
            for start in range(0, len(data), piece):
                sink.feed(data[start : start + piece])
                attempt(sink)


def failures(one: Any, other: Any) -> tuple[Exception | None, Exception | None]:
    """Shake, and return both ends' failures; a client's may come only when it reads."""
    shake(one, other)
    found = []
    for engine in (one, other):
        failure = attempt(engine)
        if failure is None:
            with pytest.raises(errors.ChannelError) as raised:
                engine.read(1)
            failure = raised.value
        found.append(failure)
    return found[0], found[1]


class Foreign:
    """A bare OpenSSL end with a configuration that ours never has."""

    def __init__(self, *, server: bool, configure: Callable[[SSL.Context], object]) -> None:
        self.context = SSL.Context(SSL.TLS_METHOD)
        self.keep = configure(self.context)
        self.connection = SSL.Connection(self.context, None)
        self.connection.set_accept_state() if server else self.connection.set_connect_state()
        self.failure: Exception | None = None

    def feed(self, data: bytes) -> None:
        self.connection.bio_write(data)

    def handshake(self) -> bool:
        try:
            self.connection.do_handshake()
            self.connection.read(1)
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


def showing(leaf: x509.Certificate, key: Any, *chain: x509.Certificate) -> Callable[[SSL.Context], None]:
    def configure(context: SSL.Context) -> None:
        context.use_certificate(leaf)
        context.use_privatekey(key)
        for one in chain:
            context.add_extra_chain_cert(one)

    return configure


def leaf(  # what `certificates` would never make
    key: Any = KEYS[Role.CLIENT],
    *,
    issuer: Any = KEYS["ca"],
    since: dt.datetime = NOW - DAY,
    until: dt.datetime = NOW + DAY,
    usage: Any = ExtendedKeyUsageOID.CLIENT_AUTH,
    ca: bool = False,
    signs: bool = True,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "far end")])
    by = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")])
    bits = dict.fromkeys(
        ["content_commitment", "data_encipherment", "crl_sign", "encipher_only", "decipher_only", "key_cert_sign"],
        False,
    )
    builder = (
        x509.CertificateBuilder(by, name, key.public_key(), x509.random_serial_number(), since, until)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=signs, key_agreement=not signs, key_encipherment=not signs, **bits), True
        )
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    )
    return builder.sign(issuer, SHA256() if isinstance(issuer, ec.EllipticCurvePrivateKey) else None)


def foreign_client(certificate: x509.Certificate, key: Any = KEYS[Role.CLIENT]) -> Any:
    return Foreign(server=False, configure=showing(certificate, key))


def foreign_server(certificate: x509.Certificate, key: Any = KEYS[Role.SERVER]) -> Any:
    return Foreign(server=True, configure=showing(certificate, key))


@pytest.mark.parametrize("kind", ["rsa", "ed25519"])
def test_both_ends_name_the_key_of_the_other(rsa: Any, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "mcbn")
    keys = rsa if kind == "rsa" else KEYS
    one, other = client(keys), server(keys)
    shake(one, other)
    facts = one.negotiated
    assert (facts.protocol, facts.suite) == ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256")
    assert (facts.group, facts.max_datagram) == ("X25519MLKEM768", None)
    assert (one.negotiated.identity, other.negotiated.identity) == (one.keys.peer, other.keys.peer)
    assert (one.keys.own, other.keys.own) == (other.keys.peer, one.keys.peer)
    records = [vars(record) for record in caplog.records]
    logged = {(one["own_key"], one["peer_key"]) for one in records if one["event"] == "keys_verified"}
    assert logged == {(one.keys.own, one.keys.peer), (one.keys.peer, one.keys.own)}


def test_the_name_of_an_rsa_key_is_the_one_that_derive_prints(rsa: Any) -> None:
    from mcbn_protocol.encoding import b64u_encode  # noqa: PLC0415  # beside what it is compared with

    expected = f"spki-sha256:{b64u_encode(spki_sha256(rsa[Role.SERVER].public_key()))}"
    assert end(Role.SERVER, rsa).own == end(Role.CLIENT, rsa).peer == expected


def test_handshake_and_data_survive_delivery_byte_by_byte() -> None:
    one, other = client(), server()
    shake(one, other, 1)
    assert one.write(b"question") == 8
    for byte in b"".join(one.outgoing()):
        other.feed(bytes([byte]))
    assert other.read(100) == b"question"
    other.close()
    one.feed(b"".join(other.outgoing()))
    assert one.read(100) == b""


def test_no_data_before_the_handshake_and_truncation_after_it() -> None:
    one, other = client(), server()
    for engine in (one, other):
        with pytest.raises(errors.ChannelClosedError):
            engine.read(1)
    shake(one, other)
    assert one.read(1) is None
    one.feed_eof()
    with pytest.raises(errors.ChannelTruncatedError):
        one.read(1)
    other.feed(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(errors.ChannelBrokenError):
        other.read(1)
    assert (one.next_timeout(), one.on_timeout()) == (None, None)


def test_a_peer_that_goes_away_during_the_handshake_is_named() -> None:
    one = client()
    assert not one.handshake()
    one.feed_eof()
    with pytest.raises(errors.HandshakeCutError):
        one.handshake()


@pytest.mark.parametrize("role", Role)
def test_the_right_ca_with_another_key_is_refused(role: Role) -> None:
    shown = shown_by(role, KEYS | {role: KEYS["other"]})
    one, other = (client(shown=shown), server()) if role is Role.CLIENT else (client(), server(shown=shown))
    client_failure, server_failure = failures(one, other)
    refusing, refused = (server_failure, client_failure) if role is Role.CLIENT else (client_failure, server_failure)
    assert isinstance(refusing, errors.PeerKeyError)
    wrong, right = end(role, KEYS, shown).own, end(OTHER[role]).peer
    assert f"shows {wrong} where the {role}'s key {right} was expected" in str(refusing)
    assert isinstance(refused, errors.PeerRefusedError)
    assert "handshake failure" in str(refused)


@pytest.mark.parametrize("role", Role)
def test_another_ca_with_the_right_key_is_accepted(role: Role) -> None:
    shown = shown_by(role, KEYS | {"ca": KEYS["other"]})
    one, other = (client(shown=shown), server()) if role is Role.CLIENT else (client(), server(shown=shown))
    shake(one, other)
    assert one.negotiated
    assert other.negotiated


@pytest.mark.parametrize("issuer", [KEYS["other"], KEYS[Role.CLIENT], ec.generate_private_key(ec.SECP256R1())])
def test_a_leaf_without_its_ca_or_signed_by_itself_is_accepted(issuer: Any) -> None:
    one, other = foreign_client(leaf(issuer=issuer)), server()
    shake(one, other)
    assert other.negotiated
    assert one.failure is None


FLAWS: dict[str, dict[str, Any]] = {
    "expired": {"until": NOW - dt.timedelta(minutes=1)},
    "not valid yet": {"since": NOW + DAY, "until": NOW + 2 * DAY},
    "a server's": {"usage": ExtendedKeyUsageOID.SERVER_AUTH},
    "for code": {"usage": ExtendedKeyUsageOID.CODE_SIGNING},
    "a CA": {"ca": True},
    "signs nothing": {"signs": False},
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_an_unfit_leaf_with_the_right_key_is_refused(flaw: str) -> None:
    one, other = foreign_client(leaf(**FLAWS[flaw])), server()
    shake(one, other)
    assert isinstance(attempt(other), errors.PeerNotAuthenticatedError)
    assert "handshake failure" in str(one.failure)


@pytest.mark.parametrize("flaw", [flaw for flaw in FLAWS if flaw != "a server's"])
def test_an_unfit_server_with_the_right_key_is_refused(flaw: str) -> None:
    given: dict[str, Any] = {"usage": ExtendedKeyUsageOID.SERVER_AUTH} | FLAWS[flaw]
    one, other = client(), foreign_server(leaf(KEYS[Role.SERVER], **given))
    shake(one, other)
    assert isinstance(attempt(one), errors.PeerNotAuthenticatedError)
    assert "handshake failure" in str(other.failure)


def test_what_was_wrong_with_a_certificate_is_not_told_to_the_peer() -> None:
    said = set()
    own = foreign_client(leaf(KEYS[Role.SERVER]), KEYS[Role.SERVER])
    for one in (foreign_client(leaf(KEYS["other"]), KEYS["other"]), own, foreign_client(leaf(until=NOW - DAY / 2))):
        shake(one, server())
        said.add(str(one.failure))
    assert len(said) == 1


def test_a_key_of_another_kind_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    one, other = foreign_client(leaf(key), key), server()
    shake(one, other)
    assert isinstance(attempt(other), errors.HandshakeError)


@pytest.mark.parametrize("role", Role)
def test_a_reflected_key_is_refused(role: Role) -> None:
    """Each end meets an end of its own role, under certificates that say otherwise."""
    if role is Role.CLIENT:
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        engine, peer = client(), foreign_server(leaf(KEYS[Role.CLIENT], usage=usage), KEYS[Role.CLIENT])
    else:
        engine, peer = server(), foreign_client(leaf(KEYS[Role.SERVER]), KEYS[Role.SERVER])
    shake(peer, engine) if role is Role.SERVER else shake(engine, peer)
    failure = attempt(engine)
    assert isinstance(failure, errors.PeerKeyError)
    assert "this end's own key" in str(failure)


def test_a_client_without_a_certificate_is_refused() -> None:
    one = Foreign(server=False, configure=lambda context: context.set_verify(SSL.VERIFY_NONE, lambda *_: True))
    other = server()
    shake(one, other)
    failure = attempt(other)
    assert isinstance(failure, errors.PeerNotAuthenticatedError)
    assert "shows no certificate" in str(failure)
    assert one.connection.get_client_ca_list() == []


@pytest.mark.parametrize("side", ["client", "server"])
def test_tls_1_2_is_refused(side: str) -> None:
    def configure(context: SSL.Context) -> None:
        showing(leaf(key, usage=usage), key)(context)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)

    key = KEYS[Role.CLIENT if side == "client" else Role.SERVER]
    usage = ExtendedKeyUsageOID.CLIENT_AUTH if side == "client" else ExtendedKeyUsageOID.SERVER_AUTH
    peer = Foreign(server=side == "server", configure=configure)
    engine = server() if side == "client" else client()
    shake(peer, engine) if side == "client" else shake(engine, peer)
    failure = attempt(engine)
    assert isinstance(failure, errors.ProtocolRefusedError | errors.PeerRefusedError)
    assert "certificate" not in str(failure)


def test_a_client_with_only_a_psk_is_refused(psk: Any) -> None:
    one, other = psk.client()(), server()
    shake(one, other)
    assert isinstance(attempt(other), errors.HandshakeError)
    assert isinstance(attempt(one), errors.HandshakeError)


def test_a_server_with_only_a_psk_is_refused(psk: Any) -> None:
    one, other = client(), psk.server()()
    shake(one, other)
    assert isinstance(attempt(one), errors.PeerRefusedError)
    assert isinstance(attempt(other), errors.PeerNotAuthenticatedError)


def test_a_context_with_certificates_has_no_way_in_by_psk(psk: Any) -> None:
    """A foreign server that also knows a PSK cannot key the channel with it: our client offers none."""

    def configure(context: SSL.Context) -> object:
        showing(leaf(KEYS[Role.SERVER], usage=ExtendedKeyUsageOID.SERVER_AUTH), KEYS[Role.SERVER])(context)
        keep = psk.server()
        openssl.lib.SSL_CTX_set_psk_server_callback(context._context, keep._server()._callback)
        return keep

    one, other = client(), Foreign(server=True, configure=configure)
    shake(one, other)
    assert one.negotiated
    assert not openssl.lib.SSL_session_reused(other.connection._ssl)


def test_two_epochs_of_an_overlap_are_served_side_by_side() -> None:
    engines = [(client(keys), server(SECOND, KEYS)) for keys in (KEYS, SECOND)]
    for one, other in engines:
        shake(one, other)
        assert one.negotiated.identity == other.keys.own
        assert other.negotiated.identity == one.keys.own
    assert len({other.negotiated.identity for _, other in engines}) == 2


def test_a_client_that_names_no_epoch_meets_the_newest() -> None:
    newest = foreign_client(leaf(SECOND[Role.CLIENT]), SECOND[Role.CLIENT])
    older = foreign_client(leaf(), KEYS[Role.CLIENT])
    for one, accepted in ((newest, True), (older, False)):
        other = server(SECOND, KEYS)
        shake(one, other)
        assert bool(other.negotiated) is accepted
        assert isinstance(attempt(other), errors.PeerKeyError) is not accepted


def test_the_keys_of_two_epochs_cannot_be_mixed() -> None:
    one = foreign_client(leaf(), KEYS[Role.CLIENT])
    one.connection.set_tlsext_host_name(end(Role.CLIENT, SECOND).server_name(server=False))
    other = server(KEYS, SECOND)
    shake(one, other)
    assert isinstance(attempt(other), errors.PeerKeyError)


def test_an_epoch_that_has_ended_is_not_served() -> None:
    one, other = client(KEYS), server(SECOND)
    shake(one, other)
    failure = attempt(one)
    assert isinstance(failure, errors.PeerKeyError)
    assert end(Role.SERVER, SECOND).own in str(failure)
    assert one.keys.peer in str(failure)


def test_without_a_live_epoch_nothing_is_shown() -> None:
    one, other = client(), MutualTlsServer(list)()
    shake(one, other)
    assert isinstance(attempt(other), errors.ProtocolRefusedError)
    assert isinstance(attempt(one), errors.PeerRefusedError)


def test_a_look_up_that_fails_refuses_the_peer_and_stays_the_cause() -> None:
    def broken() -> list[MutualTlsKeys]:
        raise LookupError("on purpose")

    one, other = client(), MutualTlsServer(broken)()
    shake(one, other)
    with pytest.raises(errors.ProtocolRefusedError, match="LookupError"):
        other.handshake()
    assert isinstance(attempt(one), errors.PeerRefusedError)


def test_one_key_for_both_roles_serves_old_systems() -> None:
    shared = KEYS | {Role.CLIENT: KEYS[Role.SERVER]}
    one, other = client(shared), server(shared)
    shake(one, other)
    assert one.negotiated.identity == other.negotiated.identity == one.keys.own


def test_nothing_is_resumed() -> None:
    first = foreign_client(leaf())
    shake(first, server())
    session = first.connection.get_session()
    again = foreign_client(leaf())
    assert session is not None
    openssl.lib.SSL_set_session(again.connection._ssl, session._session)
    other = server()
    shake(again, other)
    assert other.negotiated
    assert not openssl.lib.SSL_session_reused(again.connection._ssl)


def test_a_session_opens_nothing_without_the_certificate() -> None:
    live = [end(Role.SERVER)]
    factory = MutualTlsServer(lambda: live)
    first = foreign_client(leaf())
    shake(first, factory())
    session = first.connection.get_session()
    assert session is not None
    bare = Foreign(server=False, configure=lambda _context: None)
    openssl.lib.SSL_set_session(bare.connection._ssl, session._session)
    other = factory()
    shake(bare, other)
    assert other.negotiated is None
    assert isinstance(attempt(other), errors.PeerNotAuthenticatedError)


def test_a_failed_handshake_is_freed_at_once(no_garbage_collector: None) -> None:
    one, other = client(shown=shown_by(Role.CLIENT, KEYS | {Role.CLIENT: KEYS["other"]})), server()
    shake(one, other)
    gone = weakref.ref(other)
    del other
    assert gone() is None
    assert not gc.isenabled()


def test_a_certificate_that_cannot_be_read_is_refused() -> None:
    """OpenSSL and Python's parser need not agree on what a certificate is: then there is an error, not a channel."""
    engine = client()
    assert not engine.judge("", object())
    assert isinstance(engine.refusal, errors.PeerNotAuthenticatedError)
    assert "AttributeError" in str(engine.refusal)


def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every certificate pass, and none."""

    def nothing(context: SSL.Context, _judge: object) -> None:
        context.set_verify(SSL.VERIFY_PEER, lambda *_: True)

    monkeypatch.setattr(mutual_tls, "require_certificate", nothing)


def test_without_its_callback_an_end_still_refuses_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    unverified(monkeypatch)
    one, other = foreign_client(leaf(KEYS["other"]), KEYS["other"]), server()
    shake(one, other)
    assert isinstance(attempt(other), errors.PeerKeyError)


def test_without_its_callback_an_end_still_refuses_no_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    unverified(monkeypatch)
    one, other = Foreign(server=False, configure=lambda context: context.set_verify(SSL.VERIFY_NONE)), server()
    shake(one, other)
    assert isinstance(attempt(other), errors.PeerNotAuthenticatedError)


def test_a_suite_that_was_not_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = client(), server()
    monkeypatch.setattr(mutual_tls, "TLS13_SUITES", ("TLS_AES_128_GCM_SHA256",))
    shake(one, other)
    assert isinstance(attempt(one), errors.ProtocolRefusedError)


def test_close_notify_instead_of_a_handshake_is_a_cut() -> None:
    engine = client()
    assert not engine.handshake()
    engine.feed(bytes.fromhex("15030300020100"))
    assert isinstance(attempt(engine), errors.HandshakeCutError)


def test_a_closed_or_broken_end_says_so() -> None:
    one, other = client(), server()
    shake(one, other)
    assert one.write(b"") == 0
    one.close()
    with pytest.raises(errors.ChannelClosedError):
        one.write(b"late")
    other.feed(bytes.fromhex("1703030020") + bytes(32))
    with pytest.raises(errors.ChannelBrokenError):
        other.read(1)
    with pytest.raises(errors.ChannelBrokenError):
        other.write(b"x")
    other.close()


def test_a_client_that_was_served_calls_a_later_alert_what_it_is() -> None:
    one, other = client(), server()
    shake(one, other)
    other.write(b"hello")
    one.feed(b"".join(other.outgoing()))
    assert one.read(10) == b"hello"
    other.feed(bytes.fromhex("1703030020") + bytes(32))
    with pytest.raises(errors.ChannelBrokenError):
        other.read(1)
    one.feed(b"".join(other.outgoing()))
    with pytest.raises(errors.ChannelBrokenError, match=r"while reading: .* alert"):
        one.read(1)


def test_no_private_key_is_shown() -> None:
    assert "PrivateKey" not in repr(end(Role.SERVER))


def test_signature_algorithms_that_openssl_does_not_know_are_refused() -> None:
    with pytest.raises(openssl.OpenSslError):
        set_signatures(SSL.Context(SSL.TLS_METHOD), b"rot13")


def test_a_certificate_that_only_openssl_can_read_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """OpenSSL takes any version number, `cryptography` none but 1 and 3: nothing is raised through C, to be printed."""
    der = leaf().public_bytes(Encoding.DER)
    version = bytes.fromhex("a003020102")
    assert der.count(version) == 1
    (tmp_path / "leaf").write_bytes(der.replace(version, bytes.fromhex("a003020112")))

    def configure(context: SSL.Context) -> None:
        context.use_certificate_file(tmp_path / "leaf", crypto.FILETYPE_ASN1)
        context.use_privatekey(KEYS[Role.CLIENT])

    other = server()
    shake(Foreign(server=False, configure=configure), other)
    assert "cannot be read (InvalidVersion)" in str(attempt(other))
    assert other.negotiated is None
    assert capfd.readouterr().err == ""
