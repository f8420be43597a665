"""From a manifest's terms to the PSK, its identity, the suites and the library of a channel."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from mcbn_protocol.key_schedule import CombinedKey, Purpose, Scheme, derive, epoch_secret, psk_identity
from mcbn_protocol.manifest import ChannelKind
from mcbn_protocol.psk_terms import PskProfile, PskSuite
from mcbn_protocol.shares import Share, commitment
from mcbn_workload.brokers.leases import Lease
from mcbn_workload.brokers.outcomes import Released
from mcbn_workload.brokers.quorum import Gathering
from mcbn_workload.channels.dtls_psk import DtlsPskClient, DtlsPskServer
from mcbn_workload.channels.errors import EngineUnavailableError
from mcbn_workload.channels.mbedtls import (
    MbedDtlsPskClient,
    MbedDtlsPskServer,
    MbedTlsPskClient,
    MbedTlsPskServer,
)
from mcbn_workload.channels.psk import NO_TERMS, Terms, Version
from mcbn_workload.channels.tls_psk import TlsPskClient, TlsPskServer
from mcbn_workload.epoch_keys.engines import PURPOSES, psk_engines
from mcbn_workload.epoch_keys.epoch import EpochKeys
from mcbn_workload.epoch_keys.openers import Material, PskOpener, find_psk, newest_terms
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.kinds import DATAGRAM_CHANNELS, MBEDTLS_CHANNELS, EngineName, check_engine
from mcbn_workload.settings import Settings
from tests.unit.workload.channels.engine_pairs import Wire
from tests.unit.workload.channels.stream_rules import shake

LEGACY = json.loads((Path(__file__).parents[3] / "vectors" / "legacy-combinations.json").read_text(encoding="utf-8"))
PUBLISHED = [one for one in LEGACY["vectors"] if one["name"] != "hmac-sha256-chain of 2"]
PSK_CHANNELS = tuple(PURPOSES)
OLD_CHANNELS = (ChannelKind.TLS12_PSK, ChannelKind.DTLS12_PSK)
GCM, CCM8 = PskSuite.AES128_GCM, PskSuite.AES128_CCM8
KEY = CombinedKey(bytes(range(32)))


def profile_of(scheme):
    return {
        "insecure_psk_profile": PskProfile.MCBN_2023,
        "scheme": Scheme(scheme),
        "insecure_scheme": True,
        "overlap_seconds": 0,
    }


def gather(network, shares, **terms):
    """Let every participant release its share under a manifest with these terms."""
    commitments = {name: commitment(network.roster.network, name, 1, share) for name, share in shares.items()}
    agreed = network.agree(1, commitments=commitments, **terms)
    leases = {name: Lease(name, 1000.0, int(network.time.wall), 60) for name in shares}
    return Gathering(
        agreed, (), {name: Released(share, leases[name], 1) for name, share in shares.items()}, len(shares)
    )


@pytest.fixture
def derived(network):
    """Derive an epoch's keys under some terms."""

    def make(channel=ChannelKind.TLS13_PSK, engine=EngineName.PYOPENSSL, **terms):
        shares = {name: network.share(name) for name in network.names}
        gathering = gather(network, shares, channels=(channel,), **terms)
        return EpochKeys(gathering, network.time.clock, PskOpener(channel, psk_engines(channel, engine)))

    return make


def negotiate(opener: Any, client: Any, live: Any) -> Any:
    """Let a channel's client meet the server of these live channels; return both ends' facts."""
    engine, server = client.client_engine(), opener.server(lambda: live)
    if isinstance(server, (DtlsPskServer, MbedDtlsPskServer)):
        wire = Wire(engine, server)
        wire.settle()
        return engine.negotiated, wire.server and wire.server.negotiated
    other = server()
    shake(engine, other)
    return engine.negotiated, other.negotiated


# Old systems' PSK.


@pytest.mark.parametrize("vector", PUBLISHED, ids=lambda one: one["name"])
def test_the_profile_makes_the_published_combination_the_psk_of_client1(make_network, vector):
    assert "published" in LEGACY["provenance"]
    given = vector["input"]["throwaway_shares"]
    network = make_network(tuple(given))
    shares = {name: Share(bytes.fromhex(text)) for name, text in given.items()}
    keys = EpochKeys(gather(network, shares, **profile_of(vector["input"]["scheme"])), network.time.clock)
    assert keys.identity == "Client1"
    assert keys.names == {"psk_identity": "Client1"}
    assert type(keys.psk) is CombinedKey
    assert keys.psk.reveal().hex() == vector["output"]["throwaway_combined"]


@pytest.mark.parametrize("scheme", ["sha256-concat", "hmac-sha256-chain"])
@pytest.mark.parametrize("channel", PSK_CHANNELS)
def test_two_ends_talk_under_the_profile(derived, channel, scheme):
    client, server = (derived(channel, **profile_of(scheme)).channel for _ in range(2))
    facts = negotiate(PskOpener(channel), client, [server])
    assert [one.identity for one in facts] == ["Client1", "Client1"]
    assert client.psk == server.psk


@pytest.mark.parametrize("channel", PSK_CHANNELS)
def test_one_psk_serves_every_channel_of_the_profile(derived, channel):
    """What is given up by it: the key is bound to no transport."""
    assert derived(channel, **profile_of("sha256-concat")).psk == derived(**profile_of("sha256-concat")).psk


@pytest.mark.parametrize("channel", PSK_CHANNELS)
def test_a_legacy_scheme_without_the_profile_goes_through_the_key_schedule(network, derived, channel):
    keys = derived(channel, scheme=Scheme.SHA256_CONCAT, insecure_scheme=True)
    secret = epoch_secret(Scheme.SHA256_CONCAT, {name: network.share(name) for name in network.names})
    assert keys.psk == derive(secret, PURPOSES[channel], keys.agreed.hash, 1)
    assert keys.identity == psk_identity(keys.agreed.hash, 1, PURPOSES[channel])


def test_each_kind_of_channel_has_a_key_of_its_own(derived):
    assert set(PURPOSES.values()) == {Purpose.TLS13_PSK, Purpose.TLS12_PSK, Purpose.DTLS12_PSK}
    assert len({derived(channel).psk.reveal() for channel in PSK_CHANNELS}) == len(PSK_CHANNELS)


def test_an_old_identity_of_the_profile_is_not_known_without_it(derived):
    client, server = derived(**profile_of("sha256-concat")).channel, derived().channel
    assert negotiate(PskOpener(), client, [server]) == (None, None)


def test_the_profile_needs_the_raw_combination(network):
    agreed = network.agree(1, **profile_of("sha256-concat"))
    secret = epoch_secret(Scheme.SHA256_CONCAT, {name: network.share(name) for name in network.names})
    with pytest.raises(ConfigurationError, match="raw output of a legacy combination"):
        PskOpener().derive(Material(agreed, secret))


# Suites.


@pytest.mark.parametrize("channel", OLD_CHANNELS)
def test_our_own_ends_prefer_forward_secrecy_whatever_else_is_allowed(derived, channel):
    keys = derived(channel, insecure_psk_suites=(CCM8, GCM))
    assert keys.channel.terms == Terms((CCM8.value, GCM.value))
    facts = negotiate(PskOpener(channel), keys.channel, [keys.channel])
    assert [one.suite for one in facts] == ["ECDHE-PSK-CHACHA20-POLY1305"] * 2


@pytest.mark.parametrize("channel", OLD_CHANNELS)
@pytest.mark.parametrize("suite", [GCM, CCM8])
@pytest.mark.parametrize("allowed", [True, False], ids=["allowed", "not allowed"])
def test_an_old_peers_suite_is_taken_only_where_the_manifest_lists_it(derived, channel, suite, allowed):
    ours, old = (derived(channel, insecure_psk_suites=(suite,) if allowed else ()).channel for _ in range(2))
    with patch.object(Version, "allowed", lambda _version, _terms: (suite.value,)):
        old.client_engine()  # makes the context that its later engines share
    facts = negotiate(PskOpener(channel), old, [ours])
    assert [one and one.suite for one in facts] == [suite.value if allowed else None] * 2


@pytest.mark.parametrize("channel", OLD_CHANNELS)
def test_during_an_overlap_the_newest_manifests_terms_hold_for_all(network, derived, channel):
    older = derived(channel, insecure_psk_suites=(GCM,)).channel
    newer = derived(channel).channel
    assert newest_terms([newer, older]) == NO_TERMS
    assert newest_terms([older, newer]).suites == (GCM.value,)
    assert newest_terms([]) == NO_TERMS
    facts = negotiate(PskOpener(channel), older, [newer, older])
    assert [one.identity for one in facts] == [older.identity] * 2


def test_a_psk_is_found_by_its_exact_name_the_newest_first(derived):
    newer, older = derived(**profile_of("hmac-sha256-chain")).channel, derived(**profile_of("sha256-concat")).channel
    assert newer.identity == older.identity
    assert find_psk([newer, older], b"Client1") == newer.psk
    assert find_psk([newer, older], b"client1") is None
    assert find_psk([], b"Client1") is None


def test_all_channels_of_an_epoch_share_one_context(derived):
    channel = derived().channel
    first, second = channel.client_engine(), channel.client_engine()
    assert first is not second
    assert first.connection._connection.get_context() is second.connection._connection.get_context()


def test_a_psk_is_derived_at_once():
    assert PskOpener.slow is False


# Libraries.

MAKERS = {
    (ChannelKind.TLS13_PSK, EngineName.PYOPENSSL): (TlsPskClient, TlsPskServer),
    (ChannelKind.TLS12_PSK, EngineName.PYOPENSSL): (TlsPskClient, TlsPskServer),
    (ChannelKind.DTLS12_PSK, EngineName.PYOPENSSL): (DtlsPskClient, DtlsPskServer),
    (ChannelKind.TLS12_PSK, EngineName.MBEDTLS): (MbedTlsPskClient, MbedTlsPskServer),
    (ChannelKind.DTLS12_PSK, EngineName.MBEDTLS): (MbedDtlsPskClient, MbedDtlsPskServer),
}


@pytest.mark.parametrize(("channel", "engine"), MAKERS, ids=str)
def test_each_channel_runs_on_the_library_that_the_image_names(derived, channel, engine):
    engines = psk_engines(channel, engine)
    made = (engines.client("mcbn1.x", KEY, NO_TERMS), engines.server(lambda _name: KEY, lambda: NO_TERMS))
    assert tuple(map(type, made)) == MAKERS[channel, engine]
    keys = derived(channel, engine)
    facts = negotiate(PskOpener(channel, engines), keys.channel, [keys.channel])
    expected = {ChannelKind.TLS13_PSK: "TLSv1.3", ChannelKind.TLS12_PSK: "TLSv1.2", ChannelKind.DTLS12_PSK: "DTLSv1.2"}
    assert [one.protocol for one in facts] == [expected[channel]] * 2


@pytest.mark.parametrize("engine", EngineName)
def test_the_mtu_reaches_both_ends(engine):
    small, large = (psk_engines(ChannelKind.DTLS12_PSK, engine, mtu=mtu) for mtu in (600, 1400))
    sizes: list[Any] = []
    for engines in (small, large):
        server: Any = engines.server(lambda _name: KEY, lambda: NO_TERMS)
        client: Any = engines.client("mcbn1.x", KEY, NO_TERMS)()
        wire = Wire(client, server)
        wire.settle()
        sizes.append([one and one.negotiated and one.negotiated.max_datagram for one in (client, wire.server)])
    assert sizes[0][0] == sizes[0][1] < 600 <= sizes[1][0] == sizes[1][1] < 1400


@pytest.mark.parametrize("channel", sorted(set(ChannelKind) - MBEDTLS_CHANNELS))
def test_a_channel_that_mbed_tls_cannot_do_is_refused_with_what_to_do(channel):
    said = rf"mbedtls cannot do the channel {channel}: it does dtls12-psk, tls12-psk; use engine = 'pyopenssl'"
    for refuse in (check_engine, psk_engines):
        with pytest.raises(ConfigurationError, match=said):
            refuse(channel, EngineName.MBEDTLS)


def test_every_other_combination_is_let_through():
    for channel in ChannelKind:
        check_engine(channel, EngineName.PYOPENSSL)
    for channel in MBEDTLS_CHANNELS:
        check_engine(channel, EngineName.MBEDTLS)
    assert DATAGRAM_CHANNELS <= MBEDTLS_CHANNELS


def test_an_image_without_mbed_tls_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "mbedtls", None)
    for name in ("mbedtls", "mbedtls_session", "mbedtls_datagrams"):
        monkeypatch.delitem(sys.modules, f"mcbn_workload.channels.{name}", raising=False)
    with pytest.raises(EngineUnavailableError, match="mbedtls"):
        psk_engines(ChannelKind.TLS12_PSK, EngineName.MBEDTLS)


def test_mbed_tls_is_loaded_only_where_the_image_names_it(monkeypatch):
    asked: list[str] = []

    def load(name):
        asked.append(name)
        return importlib.import_module(name)

    monkeypatch.setattr("mcbn_workload.epoch_keys.engines.import_module", load)
    for channel in PSK_CHANNELS:
        psk_engines(channel, EngineName.PYOPENSSL)
    assert asked == []
    psk_engines(ChannelKind.TLS12_PSK, EngineName.MBEDTLS)
    assert asked == ["mcbn_workload.channels.mbedtls"]


# The configuration file.

FILE = """
role = "server"
roster = "roster.json"
channel = "{channel}"
engine = "{engine}"
"""


@pytest.fixture
def load(network, tmp_path):
    def run(channel, engine=EngineName.PYOPENSSL, more=""):
        text = FILE.format(channel=channel.value, engine=engine.value) + more
        return Settings.load(network.write_configuration(tmp_path, text), {})

    return run


@pytest.mark.parametrize(("channel", "engine"), MAKERS, ids=str)
def test_the_file_names_channel_and_library(load, channel, engine):
    settings = load(channel, engine)
    assert (settings.channel, settings.engine, settings.mtu, settings.key_log) == (channel, engine, 1400, None)


@pytest.mark.parametrize("channel", sorted(set(ChannelKind) - MBEDTLS_CHANNELS))
def test_a_file_with_a_library_that_cannot_do_the_channel_is_refused(load, channel):
    with pytest.raises(ConfigurationError, match="use engine = 'pyopenssl'"):
        load(channel, EngineName.MBEDTLS)


@pytest.mark.parametrize("mtu", [512, 9000])
def test_the_file_may_set_the_mtu_of_datagrams(load, mtu):
    assert load(ChannelKind.DTLS12_PSK, more=f"mtu = {mtu}\n").mtu == mtu


@pytest.mark.parametrize("mtu", ["511", "9001", "true", "1e3", '"1400"'])
def test_another_mtu_is_refused(load, mtu):
    with pytest.raises(ConfigurationError, match="mtu"):
        load(ChannelKind.DTLS12_PSK, more=f"mtu = {mtu}\n")


@pytest.mark.parametrize("channel", sorted(set(ChannelKind) - DATAGRAM_CHANNELS))
def test_a_stream_has_no_mtu(load, channel):
    with pytest.raises(ConfigurationError, match="unknown member 'mtu'"):
        load(channel, more="mtu = 1400\n")


@pytest.mark.parametrize("channel", ChannelKind)
def test_the_file_may_name_a_key_log(load, channel):
    assert load(channel, more='key_log = "/tmp/keys"\n').key_log == Path("/tmp/keys")


@pytest.mark.parametrize("value", ["true", "1", '""', "[]"])
def test_a_key_log_that_is_no_path_is_refused(load, value):
    with pytest.raises(ConfigurationError, match="key_log"):
        load(ChannelKind.TLS13_PSK, more=f"key_log = {value}\n")
