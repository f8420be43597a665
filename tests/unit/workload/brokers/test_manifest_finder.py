"""Where the manifest may come from, and why its origin does not matter."""

import os
import threading

import httpx
import pytest

from mcbn_protocol.encoding import canonical
from mcbn_protocol.manifest import AgreedManifest, BrokerAddress
from mcbn_protocol.signatures import Envelope
from mcbn_workload.brokers.errors import ManifestConflictError, ManifestUnavailableError
from mcbn_workload.brokers.manifest import SHORT_BYTES, ManifestFinder, broker_address
from mcbn_workload.errors import ConfigurationError


@pytest.fixture
def find(network):
    async def run(*known, source=None, overrides=None):
        if overrides is None:
            overrides = {name: f"https://{name}.example" for name in network.names}
        finder = ManifestFinder(
            network.roster, network.connector, source=source, overrides=overrides, request_seconds=2
        )
        return await finder.find(known)

    return run


@pytest.fixture
def find_newest(find):
    async def run(*known, **how):
        return (await find(*known, **how))[0]

    return run


async def test_any_broker_will_do(network, find_newest):
    found = await find_newest(overrides={"bob": "https://bob.example"})
    assert found == network.agreed
    assert not network.brokers["alice"].requests


async def test_a_file_will_do(network, find, tmp_path):
    path = tmp_path / "bundle.json"
    path.write_bytes(network.agreed.bundle)
    assert await find(source=str(path), overrides={}) == [network.agreed]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "huge"])
async def test_a_file_that_is_no_regular_file_of_a_bundles_size_is_refused_at_once(find, tmp_path, kind):
    path = tmp_path / "source"
    if kind == "pipe":
        os.mkfifo(path)  # opening it would wait for a writer, and with it the event loop
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(10**12)
    source = "/dev/zero" if kind == "device" else str(path)
    with pytest.raises(ManifestUnavailableError, match=r"not a regular file|Is a directory|where at most"):
        await find(source=source, overrides={})


async def test_a_url_will_do(network, find):
    assert await find(source="https://carol.example/v1/manifest", overrides={}) == [network.agreed]


async def test_nobody_to_ask_is_a_configuration_error(find):
    with pytest.raises(ConfigurationError, match="MCBN_MANIFEST"):
        await find(overrides={})


async def test_the_highest_epoch_wins(network, find):
    network.brokers["carol"].agreed = network.agree(3)
    network.brokers["bob"].agreed = network.agree(2)
    assert [one.manifest.epoch for one in await find()] == [3, 2, 1]


async def test_an_older_manifest_never_replaces_the_known_one(network, find):
    known = network.agree(2)
    assert (await find(known))[0] == known


async def test_the_brokers_of_every_known_manifest_are_asked(network, find):
    """A broker that has moved is found, whichever of two epochs is in force."""
    moved = {name: BrokerAddress("https://alice.example", None) for name in network.names}
    known = network.agree(2, brokers=moved)
    network.brokers["bob"].agreed = network.agree(3)
    assert [one.manifest.epoch for one in await find(known, network.agreed, overrides={})] == [3, 2, 1]


async def test_with_a_known_manifest_its_own_brokers_are_asked(network, find):
    network.brokers["bob"].agreed = network.agree(2)
    assert (await find(network.agreed, overrides={}))[0].manifest.epoch == 2


async def test_two_manifests_of_one_epoch_are_refused_and_the_signers_named(network, find):
    network.brokers["carol"].agreed = network.agree(1, lease_seconds=30)
    with pytest.raises(ManifestConflictError, match="alice, bob, carol"):
        await find()


async def test_a_manifest_signed_by_too_few_is_refused(network, find):
    envelope = Envelope.parse(network.agreed.bundle, limit=10**6)
    fewer = Envelope(envelope.payload, envelope.signatures[:2]).to_bytes()
    for broker in network.brokers.values():
        broker.reply = lambda _request: httpx.Response(200, content=fewer)
    with pytest.raises(ManifestUnavailableError, match="missing: carol"):
        await find()


async def test_a_manifest_of_another_network_is_refused(make_network, network, find):
    foreign = make_network(("alice", "bob")).agreed.bundle
    network.brokers["bob"].reply = lambda _request: httpx.Response(200, content=foreign)
    with pytest.raises(ManifestUnavailableError, match="another roster"):
        await find(overrides={"bob": "https://bob.example"})


async def test_a_bundle_that_takes_long_to_judge_does_not_hold_up_the_channels(network, find, tmp_path, monkeypatch):
    """One lying broker: half a megabyte of numbers costs a second, so no long bundle is judged on the event loop."""
    judged_by, parse = [], AgreedManifest.parse

    def watched(unverified_bundle, roster):
        if len(unverified_bundle) > SHORT_BYTES:
            judged_by.append(threading.get_ident())
        return parse(unverified_bundle, roster)

    monkeypatch.setattr(AgreedManifest, "parse", watched)
    numbers = canonical({"payload": {"numbers": [0] * 200_000}, "signatures": []})
    network.brokers["bob"].reply = lambda _request: httpx.Response(200, content=numbers)
    path = tmp_path / "bundle.json"
    path.write_bytes(numbers)
    assert await find(source=str(path)) == [network.agreed]
    assert len(judged_by) == 2
    assert threading.get_ident() not in judged_by


async def test_one_good_source_among_bad_ones_is_enough(network, find):
    network.brokers["alice"].reply = lambda _request: httpx.Response(200, content=b"{}")
    network.brokers["bob"].reply = lambda _request: httpx.Response(403)
    assert await find(source="/nonexistent/bundle.json") == [network.agreed]


async def test_every_source_says_why_it_gave_none(network, find):
    network.brokers["alice"].reply = lambda _request: httpx.Response(200, content=bytes(600 * 1024))
    network.brokers["bob"].reply = lambda _request: httpx.Response(403)
    del network.brokers["carol"]
    with pytest.raises(ManifestUnavailableError) as caught:
        await find(source="/nonexistent/bundle.json")
    for reason in (
        "alice: the answer is longer",
        "bob: status 403",
        "carol: ConnectError",
        "bundle.json: No such file",
    ):
        assert reason in str(caught.value)


async def test_before_a_manifest_is_known_plain_http_is_for_loopback_only(find):
    with pytest.raises(ManifestUnavailableError, match="plain http"):
        await find(overrides={"bob": "http://bob.example"})


def test_an_override_keeps_the_manifests_ca(network):
    address = BrokerAddress("https://bob.example", "PEM")
    manifest = network.manifest(brokers=dict(network.agreed.manifest.brokers) | {"bob": address})
    assert broker_address(manifest, "bob", {}) == address
    assert broker_address(manifest, "bob", {"bob": "https://b.example"}) == BrokerAddress("https://b.example", "PEM")
