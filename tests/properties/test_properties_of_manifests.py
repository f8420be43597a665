"""Whatever is done to a signed manifest: it is refused, or is the very same; and what is read can be written again."""

import hashlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcbn_broker.errors import CeremonyError
from mcbn_protocol.encoding import canonical
from mcbn_protocol.errors import MalformedError, ProtocolError
from mcbn_protocol.manifest import AgreedManifest, Manifest
from tests.properties.answers import open_broker
from tests.properties.budget import budget
from tests.properties.json_trees import PLAIN, changed, strict, styles, tree
from tests.properties.property_lab import NAMES, network


@pytest.fixture
def broker(logged):
    with open_broker(logged) as broker:
        yield broker


def genuine() -> dict[str, Any]:
    value: dict[str, Any] = strict(network().first.bundle)
    return value


@st.composite
def payloads(draw: st.DrawFn) -> dict[str, Any]:
    """A payload, changed, that still is a JSON object with a canonical form."""
    text = PLAIN.write(draw(changed(tree(genuine()["payload"])))).encode("utf-8", "surrogatepass")
    try:
        value = strict(text)
        canonical(value)
    except (ValueError, RecursionError, MalformedError):
        value = None
    return value if isinstance(value, dict) else {}


@st.composite
def altered_bytes(draw: st.DrawFn) -> bytes:
    """Bytes that are not the bundle's: a bit flipped, a piece gone, or the same JSON written or arranged otherwise."""
    right = network().first.bundle
    place = draw(st.integers(0, len(right) - 1))
    flipped = right[:place] + bytes([right[place] ^ 1 << draw(st.integers(0, 7))]) + right[place + 1 :]
    cut = right[:place] + right[place + draw(st.integers(1, 50)) :]
    written = draw(styles).write(draw(changed(tree(genuine())))).encode("utf-8", "surrogatepass")
    return draw(st.sampled_from((flipped, cut, written)))


def test_a_changed_signed_manifest_never_verifies(broker):
    """Neither protocol nor broker takes bytes that differ from those that everybody signed."""

    @budget(200)
    @given(data=altered_bytes())
    def run(data: bytes) -> None:
        if data == network().first.bundle:
            assert broker.alice.store.accept_manifest(data).hash == network().first.hash
            return
        with pytest.raises(ProtocolError):
            AgreedManifest.parse(data, network().roster)
        with pytest.raises((CeremonyError, ProtocolError)):
            broker.alice.store.accept_manifest(data)

    run()
    broker.chain.catch_up()
    assert [one.agreed.hash for one in broker.alice.store.manifests()] == [network().first.hash]


def test_what_everybody_signs_is_refused_or_read_as_it_is_written(record_property):
    """A changed payload, rightly signed by all: one of our errors, or a manifest that is written back to the byte."""
    seen: Counter[str] = Counter()

    @budget(200)
    @given(payload=payloads())
    def run(payload: dict[str, Any]) -> None:
        bundle = network().bundle(payload)
        try:
            agreed = AgreedManifest.parse(bundle, network().roster)
        except ProtocolError as error:
            seen[type(error).__name__] += 1
            return
        seen["read"] += 1
        assert agreed.hash == hashlib.sha256(canonical(payload)).digest()
        assert agreed.bundle == bundle
        assert canonical(agreed.manifest.to_payload()) == canonical(payload)
        assert Manifest.from_payload(agreed.manifest.to_payload()) == agreed.manifest

    run()
    record_property("figure", f"signed payloads: {dict(sorted(seen.items()))}")
    assert seen["read"]
    assert len(seen) > 1


def test_a_manifest_without_everybodys_own_signature_never_verifies():
    """Signatures of too few, twice, in another order, of another manifest, or with each other's keys."""
    payload = genuine()["payload"]
    mine = {one["participant"]: one["signature"] for one in genuine()["signatures"]}
    other = strict(network().bundle(payload | {"lease_seconds": 61}))
    theirs = {one["participant"]: one["signature"] for one in other["signatures"]}
    signatures = st.sampled_from([*mine.values(), *theirs.values()])
    entry = st.fixed_dictionaries({"participant": st.sampled_from(NAMES), "signature": signatures})

    @budget(200)
    @given(signed=st.lists(entry, max_size=4))
    def run(signed: list[dict[str, str]]) -> None:
        bundle = canonical({"payload": payload, "signatures": [dict(one) for one in signed]})
        if bundle == network().first.bundle:
            return
        with pytest.raises(ProtocolError):
            AgreedManifest.parse(bundle, network().roster)

    run()
