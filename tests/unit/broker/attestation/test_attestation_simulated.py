"""The simulator's issuer, its documents, keys and tokens, through the very code that judges Google's."""

import asyncio
from typing import Any

import httpx
import pytest

from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.confidential_space import ConfidentialSpaceVerifier
from mcbn_broker.attestation.errors import KeysUnavailable
from mcbn_broker.attestation.fetching import new_client
from mcbn_broker.attestation.key_sets import KeySetLimits, KeySets
from mcbn_simulator.issuer import DISCOVERY_PATH, Issuer
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.token_options import TokenOptions

NOW = 1_800_000_000
NONCES = ("C" * 55, "B" * 43)


async def test_a_simulated_token_verifies_before_and_after_a_rotation(clock: Any) -> None:
    issuer = Issuer("http://issuer.test", clock=lambda: NOW)

    def documents(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=issuer.discovery() if request.url.path == DISCOVERY_PATH else issuer.jwks())

    client = new_client(httpx.MockTransport(documents))
    keys = KeySets(client, limits=KeySetLimits(), clock=clock, sleep=asyncio.sleep, jitter=lambda: 0.0)
    verifier = ConfidentialSpaceVerifier(keys, maximum_age_seconds=300, leeway_seconds=60)

    async def verify() -> str:
        machine = SimulatedMachine(image_digest="sha256:" + "ab" * 32)
        token = issuer.issue(machine, TokenOptions(audience="mcbn:v1:x:alice", nonces=NONCES, token_type="OIDC"))
        result = await verifier.verify(
            token,
            anchors=TrustAnchors(frozenset({issuer.issuer_url}), {}),
            audience="mcbn:v1:x:alice",
            nonces=NONCES,
            now=NOW,
        )
        return result.instance_id

    assert await verify() == "1000000000000000001"
    issuer.rotate()
    with pytest.raises(KeysUnavailable) as caught:
        await verify()
    clock.now += caught.value.retry_after
    assert await verify() == "1000000000000000001"
