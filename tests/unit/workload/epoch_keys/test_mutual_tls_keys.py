"""Keys for mutual TLS, from the shares to a channel: both ends derive the same, and forget them with the epoch."""

import asyncio
import dataclasses
import datetime as dt
import threading
import time
from contextlib import asynccontextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mcbn_protocol.identifiers import Role
from mcbn_protocol.key_schedule import Purpose, derive, epoch_secret
from mcbn_protocol.manifest import ChannelKind
from mcbn_protocol.mutual_tls import LeafKind, MutualTlsTerms
from mcbn_protocol.rsa_schemes import RsaScheme
from mcbn_workload.brokers.leases import Clock, Lease
from mcbn_workload.brokers.outcomes import Released
from mcbn_workload.brokers.quorum import Gathering
from mcbn_workload.channels.certificates import Validity, derived_authority
from mcbn_workload.channels.errors import HandshakeError
from mcbn_workload.channels.listener import serve_channels
from mcbn_workload.channels.streams import open_channel
from mcbn_workload.epoch_keys import mutual_tls
from mcbn_workload.epoch_keys.epoch import EpochKeys, LeaseEndedError, SharesRefusedError
from mcbn_workload.epoch_keys.mutual_tls import MutualTlsOpener
from mcbn_workload.epoch_keys.openers import Material
from mcbn_workload.epoch_keys.ring import KeyRing
from mcbn_workload.errors import ConfigurationError, NoKeysError
from mcbn_workload.rsa_keys import RsaKeyError, derive_rsa_key
from mcbn_workload.settings import CertificateSettings

ED25519 = MutualTlsTerms(LeafKind.ED25519, None, None)
RSA = MutualTlsTerms(LeafKind.RSA, RsaScheme.C2SP_DET_KEYGEN, 2048)
SHARED = dataclasses.replace(RSA, insecure_shared_key=True)
LONG = 600_000  # seconds
PRESENT = int(time.time())  # OpenSSL goes by the real clock


@pytest.fixture(autouse=True)
def present(network):
    network.time.wall = float(PRESENT)


def terms_of(terms):
    return {
        "channels": (ChannelKind.MTLS13,),
        "mutual_tls": terms,
        "valid_from": PRESENT - 100,
        "valid_until": PRESENT + 2 * LONG,
    }


@pytest.fixture
def derived(network):
    """Derive one role's channel under some terms."""

    def make(role, terms, settings=None, clock=None):
        agreed = network.agree(1, **terms_of(terms))
        shares = {name: network.share(name) for name in network.names}
        secret = epoch_secret(agreed.manifest.scheme, shares)
        opener = MutualTlsOpener(role, settings or CertificateSettings(), clock or Clock())
        return opener.derive(Material(agreed, secret)), secret, agreed

    return make


@pytest.mark.parametrize("terms", [ED25519, RSA, SHARED])
def test_each_end_expects_the_key_that_the_other_shows(derived, terms):
    client, server = (derived(role, terms)[0] for role in (Role.CLIENT, Role.SERVER))
    assert (client.keys.own, client.keys.peer) == (server.keys.peer, server.keys.own)
    assert (client.identity, server.identity) == (server.keys.own, client.keys.own)
    assert (client.keys.own == server.keys.own) is terms.insecure_shared_key
    assert client.psk is None


def test_the_keys_are_those_of_the_key_schedule(derived):
    channel, secret, agreed = derived(Role.SERVER, RSA)
    seed = derive(secret, Purpose.SERVER_RSA_SEED, agreed.hash, 1)
    expected = derive_rsa_key(RsaScheme.C2SP_DET_KEYGEN, seed, 2048)
    shown = channel.keys.credentials
    assert isinstance(shown.leaf.public_key(), RSAPublicKey)
    assert shown.leaf.public_key() == expected.public_key()
    authority = derive_rsa_key(RsaScheme.C2SP_DET_KEYGEN, derive(secret, Purpose.CA_RSA_SEED, agreed.hash, 1), 2048)
    assert shown.authority.public_key() == authority.public_key()
    assert shown.leaf.not_valid_after_utc.timestamp() == agreed.manifest.valid_until


@pytest.mark.parametrize("role", Role)
def test_a_certificate_has_the_names_and_the_ca_of_the_image(derived, role, tmp_path):
    shown = derived(role, ED25519)[0].keys.credentials
    san = shown.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == [f"mcbn-{role.value}"]
    (tmp_path / "ca.pem").write_bytes(shown.leaf.public_bytes(Encoding.PEM))
    (tmp_path / "ca.key").write_bytes(shown.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files = CertificateSettings(ca_certificate=tmp_path / "ca.pem", ca_key=tmp_path / "ca.key", names=("a.example",))
    with pytest.raises(ConfigurationError, match="no CA"):
        derived(role, ED25519, files)
    (tmp_path / "ca.pem").write_bytes(shown.authority.public_bytes(Encoding.PEM))
    with pytest.raises(ConfigurationError, match="not that of"):
        derived(role, ED25519, files)


def test_the_ca_of_the_image_signs(derived, tmp_path):
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    present = dt.datetime.fromtimestamp(PRESENT, dt.UTC)
    ca = derived_authority(key, Validity(present, present + dt.timedelta(days=1))).certificate
    (tmp_path / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    (tmp_path / "ca.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files = CertificateSettings(ca_certificate=tmp_path / "ca.pem", ca_key=tmp_path / "ca.key", names=("a.example",))
    shown = derived(Role.SERVER, RSA, files)[0].keys.credentials
    shown.leaf.verify_directly_issued_by(ca)
    assert shown.authority == ca


def test_a_scheme_that_gives_no_key_asks_for_another_epoch(derived, monkeypatch):
    def fails(*_arguments):
        raise RsaKeyError("16 seeds gave no key")

    monkeypatch.setattr(mutual_tls, "derive_rsa_key", fails)
    with pytest.raises(SharesRefusedError, match="open a new epoch"):
        derived(Role.SERVER, RSA)


def test_an_ended_manifest_gives_no_certificate(derived):
    with pytest.raises(LeaseEndedError, match="clock"):
        derived(Role.SERVER, ED25519, clock=Clock(wall=lambda: time.time() + 3 * LONG))


def test_a_manifest_without_the_terms_gives_no_keys(network):
    lease = {name: Lease(name, 1000.0, int(network.time.wall), 60) for name in network.names}
    released = {name: Released(network.share(name), lease[name], 1) for name in network.names}
    opener = MutualTlsOpener(Role.SERVER, CertificateSettings(), Clock())
    with pytest.raises(ConfigurationError, match="mutual_tls"):
        EpochKeys(Gathering(network.agreed, (), released, 3), network.time.clock, opener)


@pytest.fixture
def new_ring(network):
    def make(role):
        patience = network.patience(sleep=network.time.sleep, gather_seconds=1000)
        return KeyRing(
            network.gatherer(patience, role=role, channel=ChannelKind.MTLS13),
            network.names,
            clock=network.time.clock,
            patience=patience,
            opener=MutualTlsOpener(role, CertificateSettings(), Clock()),
        )

    return make


async def echo(channel):
    while data := await channel.read():
        await channel.write(data)


@asynccontextmanager
async def listening(ring):
    async with serve_channels(
        "127.0.0.1", 0, ring.server_engines(), echo, guard=ring.guard, registry=ring.registry
    ) as server:
        yield server.addresses[0]


async def opened(address, ring):
    host, port = address
    return await open_channel(host, port, ring.client_engine, guard=ring.guard, registry=ring.registry)


async def said(address, ring, text=b"hello"):
    async with await opened(address, ring) as channel:
        await channel.write(text)
        return await channel.read()


@pytest.mark.parametrize("terms", [ED25519, RSA], ids=["ed25519", "rsa"])
async def test_two_rings_meet(network, new_ring, terms):
    network.open_epoch(1, **terms_of(terms))
    server, client = new_ring(Role.SERVER), new_ring(Role.CLIENT)
    await server.start()
    await client.start()
    async with listening(server) as address:
        assert await said(address, client) == b"hello"
    assert client.epochs[0].identity != server.epochs[0].identity


async def test_rsa_keys_are_derived_beside_the_event_loop(network, new_ring, monkeypatch):
    threads = []

    def noting(*arguments):
        threads.append(threading.current_thread())
        return derive_rsa_key(*arguments)

    monkeypatch.setattr(mutual_tls, "derive_rsa_key", noting)
    network.open_epoch(1, **terms_of(RSA))
    await new_ring(Role.SERVER).start()
    assert len(threads) == 3
    assert threading.main_thread() not in threads


async def follow(ring, network):
    """Let the ring renew, and wait until it holds two epochs."""
    task = asyncio.create_task(ring.run())
    await network.time.advance(40)
    while len(ring.epochs) < 2:  # noqa: ASYNC110  # a thread derives the keys
        await asyncio.sleep(0)
    return task


async def test_both_epochs_of_an_overlap_are_served_until_one_ends(network, new_ring):
    network.open_epoch(1, **terms_of(ED25519))
    server, client, old = new_ring(Role.SERVER), new_ring(Role.CLIENT), new_ring(Role.CLIENT)
    for ring in (server, old):
        await ring.start()
    network.open_epoch(2, overlap_seconds=1000, **terms_of(ED25519))
    running = await follow(server, network)
    await client.start()
    async with listening(server) as address:
        assert await said(address, old) == await said(address, client) == b"hello"
        first = server.epochs[0]
        held = await opened(address, client)
        older = await opened(address, old)
        await older.write(b"x")
        assert await older.read() == b"x"
        server._end(first)
        assert first.channel is None
        with pytest.raises(NoKeysError):
            server.guard(first.identity)
        await held.write(b"still")
        assert await held.read() == b"still"
        with pytest.raises(HandshakeError, match="was expected"):
            await said(address, old)
        await held.close()
        older.abort(LeaseEndedError((), "done"))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_the_two_ends_may_compare_is_logged(network, new_ring, caplog):
    caplog.set_level("INFO", "mcbn")
    network.open_epoch(1, **terms_of(ED25519))
    for role in Role:
        await new_ring(role).start()
    one, other = [vars(record) for record in caplog.records if getattr(record, "event", "") == "gathered"]
    assert (one["own_key"], one["peer_key"]) == (other["peer_key"], other["own_key"])
    assert one["key_check"] == other["key_check"]
    assert "psk_identity" not in one


async def test_what_is_forgotten_opens_nothing(network, new_ring):
    network.open_epoch(1, **terms_of(ED25519))
    ring = new_ring(Role.CLIENT)
    keys = await ring.start()
    keys.client_engine()
    ring.stop()
    assert keys.channel is None
    with pytest.raises(LeaseEndedError):
        keys.client_engine()
