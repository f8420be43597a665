"""The key log: written only where manifest, configuration and image all say so, and then in a form that others read."""

import asyncio
import contextlib
import gc
import os
import re
import sys
import time
from typing import Any

import pytest

from mcbn_protocol.identifiers import Role
from mcbn_protocol.key_schedule import epoch_secret
from mcbn_protocol.manifest import ChannelKind
from mcbn_protocol.mutual_tls import LeafKind, MutualTlsTerms
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.endpoints import new_opener, new_watch
from mcbn_workload.epoch_keys.openers import Material
from mcbn_workload.epoch_keys.ring import KeyRing
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.key_log import key_log
from mcbn_workload.kinds import EngineName
from tests.unit.workload.channels.engine_pairs import Wire
from tests.unit.workload.channels.stream_rules import shake

RANDOM = b"[0-9a-f]{64} "
SECRET = b"[0-9a-f]{64}"
TLS13_LABELS = {
    b"CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    b"SERVER_HANDSHAKE_TRAFFIC_SECRET",
    b"CLIENT_TRAFFIC_SECRET_0",
    b"SERVER_TRAFFIC_SECRET_0",
    b"EXPORTER_SECRET",
}
TLS13_LINE = re.compile(b"(" + b"|".join(TLS13_LABELS) + b") " + RANDOM + SECRET)
TLS12_LINE = re.compile(b"(CLIENT_RANDOM) " + RANDOM + b"[0-9a-f]{96}")
CHANNELS = tuple(ChannelKind)
MTLS = MutualTlsTerms(LeafKind.ED25519, None, None)


def terms_of(channel, **terms):
    mutual = MTLS if channel is ChannelKind.MTLS13 else None
    present = int(time.time())  # OpenSSL goes by the real clock
    times = {"valid_from": present - 100, "valid_until": present + 10**6}
    return {"channels": (channel,), "mutual_tls": mutual, "key_log": True} | times | terms


@pytest.fixture
def talk(network):
    """Open a channel between two images, of which some write a key log; return what both negotiated."""

    def run(channel, files, **terms):
        agreed = network.agree(1, **terms_of(channel, **terms))
        shares = {name: network.share(name) for name in network.names}
        material = Material(agreed, epoch_secret(agreed.manifest.scheme, shares))
        openers = {
            role: new_opener(network.settings(role, channel=channel, key_log=files.get(role)), Clock()) for role in Role
        }
        live = openers[Role.SERVER].derive(material)
        server: Any = openers[Role.SERVER].server(lambda: [live])
        client: Any = openers[Role.CLIENT].derive(material).client_engine()
        if channel is ChannelKind.DTLS12_PSK:
            wire = Wire(client, server)
            wire.settle()
            return client.negotiated, wire.server and wire.server.negotiated
        other = server()
        shake(client, other)
        return client.negotiated, other.negotiated

    return run


# What is written.


@pytest.mark.parametrize("channel", CHANNELS)
def test_both_ends_write_the_same_secrets_in_the_form_that_wireshark_reads(talk, tmp_path, channel):
    files = {role: tmp_path / role.value for role in Role}
    assert None not in talk(channel, files)
    client, server = (files[role].read_bytes() for role in (Role.CLIENT, Role.SERVER))
    lines = client.split(b"\n")
    assert lines.pop() == b""
    expected = TLS13_LINE if channel in {ChannelKind.TLS13_PSK, ChannelKind.MTLS13} else TLS12_LINE
    found = [expected.fullmatch(line) for line in lines]
    assert None not in found
    labels = {one[1] for one in found if one}
    assert labels == (TLS13_LABELS if expected is TLS13_LINE else {b"CLIENT_RANDOM"})
    assert sorted(server.split(b"\n")) == sorted(client.split(b"\n"))


@pytest.mark.parametrize("by", Role)
@pytest.mark.parametrize("channel", CHANNELS)
def test_either_end_may_write_alone(talk, tmp_path, channel, by):
    assert None not in talk(channel, {by: tmp_path / "keys"})
    assert (tmp_path / "keys").read_bytes().endswith(b"\n")


def test_sessions_are_added_at_the_end(talk, tmp_path):
    files = {Role.SERVER: tmp_path / "keys"}
    talk(ChannelKind.TLS12_PSK, files)
    first = files[Role.SERVER].read_bytes()
    talk(ChannelKind.TLS12_PSK, files)
    assert files[Role.SERVER].read_bytes().startswith(first)
    assert files[Role.SERVER].read_bytes().count(b"CLIENT_RANDOM") == 2


def test_the_psk_itself_is_not_written(network, talk, tmp_path):
    files = {role: tmp_path / role.value for role in Role}
    talk(ChannelKind.TLS13_PSK, files)
    agreed = network.agree(1, **terms_of(ChannelKind.TLS13_PSK))
    secret = epoch_secret(agreed.manifest.scheme, {name: network.share(name) for name in network.names})
    psk = new_opener(network.settings(), Clock()).derive(Material(agreed, secret)).psk
    for value in (psk, secret, *(network.share(name) for name in network.names)):
        assert value.reveal().hex().encode() not in files[Role.SERVER].read_bytes()


# Who has to agree.


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_manifest_alone_writes_nothing(talk, tmp_path, monkeypatch, channel):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "environment"))
    assert None not in talk(channel, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_configuration_alone_opens_no_channel(talk, tmp_path, channel):
    with pytest.raises(ConfigurationError, match="says key_log, but the manifest of epoch 1 does not: agree on"):
        talk(channel, {Role.SERVER: tmp_path / "keys"}, key_log=False)
    assert (tmp_path / "keys").read_bytes() == b""


def test_what_is_written_is_said_loudly(network, tmp_path, caplog):
    watch = new_watch(network.settings(key_log=tmp_path / "keys"))
    assert watch(network.agree(1, key_log=True)) is not None
    (record,) = caplog.records
    assert (record.levelname, record.event, record.epoch) == ("WARNING", "key_log", 1)
    assert "KEY LOG" in record.message


def test_without_a_file_nothing_is_loaded(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcbn_workload.key_log", None)
    assert new_watch(network.settings())(network.agree(1, key_log=True)) is None


def test_an_image_without_the_code_says_so(network, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcbn_workload.key_log", None)
    with pytest.raises(ConfigurationError, match="built without the key log: take key_log out, or build another"):
        new_watch(network.settings(key_log=tmp_path / "keys"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channel", [ChannelKind.TLS12_PSK, ChannelKind.DTLS12_PSK])
def test_a_library_that_has_no_key_log_is_refused(network, tmp_path, channel):
    settings = network.settings(channel=channel, engine=EngineName.MBEDTLS, key_log=tmp_path / "keys")
    with pytest.raises(ConfigurationError, match="mbedtls cannot write a key log: use engine = 'pyopenssl'"):
        new_opener(settings, Clock())
    assert list(tmp_path.iterdir()) == []


# Over time.


@pytest.fixture
def new_ring(network, tmp_path):
    def make(**settings):
        patience = network.patience(sleep=network.time.sleep, gather_seconds=1000)
        settings = {"key_log": tmp_path / "keys"} | settings
        return KeyRing(
            network.gatherer(patience),
            network.names,
            clock=network.time.clock,
            patience=patience,
            opener=new_opener(network.settings(**settings), network.time.clock),
        )

    return make


def let_all_agree(network, epoch, **terms):
    network.agreed = network.open_epoch(epoch, **terms)


async def test_an_image_with_a_key_log_does_not_start_under_a_manifest_without_it(new_ring):
    with pytest.raises(ConfigurationError, match="the manifest of epoch 1 does not"):
        await new_ring().start()


async def test_an_image_with_a_key_log_does_not_follow_a_manifest_that_drops_it(network, new_ring, caplog):
    let_all_agree(network, 1, key_log=True)
    ring = new_ring()
    await ring.start()
    task = asyncio.create_task(ring.run())
    let_all_agree(network, 2, valid_from=int(network.time.wall), overlap_seconds=0)
    await network.time.advance(40)
    assert [keys.epoch for keys in ring.epochs] == [1]
    await network.time.advance(60)
    assert ring.epochs == ()
    assert "the manifest of epoch 2 does not" in caplog.text
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_an_image_without_it_follows_either(network, new_ring):
    let_all_agree(network, 1, key_log=True)
    ring = new_ring(key_log=None)
    keys = await ring.start()
    assert keys.channel.terms.watch is None


# The file.


@pytest.fixture
def open_files():
    return lambda: len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # what is open, not paths


def test_only_its_owner_may_read_the_file(tmp_path):
    before = os.umask(0)
    try:
        key_log(tmp_path / "keys")
    finally:
        os.umask(before)
    assert (tmp_path / "keys").stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o644])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path, open_files, mode):
    path = tmp_path / "keys"
    path.touch()
    path.chmod(mode)
    before = open_files()
    with pytest.raises(ConfigurationError, match=f"others may read the key log {path}: chmod 600 it"):
        key_log(path)
    assert open_files() == before


@pytest.mark.parametrize("kind", ["symlink", "dangling", "folder", "no folder"])
def test_what_is_no_file_of_its_own_is_refused(tmp_path, kind):
    path, target = tmp_path / "keys", tmp_path / "target"
    if kind == "symlink":
        target.touch(0o600)
    if kind == "folder":
        path.mkdir()
    elif kind == "no folder":
        path = path / "keys"
    else:
        path.symlink_to(target)
    with pytest.raises(ConfigurationError, match="cannot write the key log"):
        key_log(path)
    assert not target.exists() or target.read_bytes() == b""
    assert target.exists() is (kind == "symlink")


def test_the_file_is_closed_once_no_context_can_write_to_it(talk, tmp_path, open_files):
    gc.collect()
    before = open_files()
    talk(ChannelKind.TLS12_PSK, {role: tmp_path / role.value for role in Role})
    gc.collect()
    assert open_files() == before
