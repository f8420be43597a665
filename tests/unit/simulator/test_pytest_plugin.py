"""The fixtures that an application's tests get, and what loading them costs those who do not ask for them."""

import contextlib
import dataclasses
import subprocess
import sys

import httpx
import jwt
import pytest

from mcbn_simulator.errors import SimulatorError
from mcbn_simulator.machine import SimulatedMachine

NONCES = ("0123456789", "9876543210")


def claims_of(token: str) -> dict:
    return jwt.decode(token, options={"verify_signature": False})


def verified(token: str, issuer) -> dict:
    """Verify a token as a broker would: by the key set that discovery names."""
    with httpx.Client(trust_env=False) as client:
        keys = client.get(client.get(f"{issuer.url}/.well-known/openid-configuration").json()["jwks_uri"]).json()
    kid = jwt.get_unverified_header(token)["kid"]
    (key,) = [one for one in keys["keys"] if one["kid"] == kid]
    return jwt.decode(token, jwt.PyJWK(key), algorithms=["RS256"], audience="me", issuer=issuer.url)


def test_loading_the_plugin_imports_nothing_but_pytest():
    program = (
        "import sys, pytest; before = set(sys.modules); import mcbn_simulator.pytest_plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert set(loaded.split()) == {"mcbn_protocol", "mcbn_simulator", "mcbn_simulator.pytest_plugin"}


def test_a_token_verifies_and_says_what_the_test_wants(token_issuer):
    token = token_issuer.token(audience="me", nonces=NONCES, claims={"submods.gce.zone": "here"}, removed=["oemid"])
    claims = verified(token, token_issuer)
    assert claims["eat_nonce"] == list(NONCES)
    assert claims["submods"]["gce"]["zone"] == "here"
    assert "oemid" not in claims


def test_any_claims_at_all_can_be_signed(token_issuer):
    machine = SimulatedMachine(image_digest="sha256:" + "00" * 32)
    claims = token_issuer.claims(machine, audience="me", nonces=NONCES, now=1_800_000_000)
    assert claims_of(token_issuer.sign(claims | {"secboot": "yes"}))["secboot"] == "yes"


def test_a_token_of_the_last_key_but_one_no_longer_verifies(token_issuer):
    token = token_issuer.token(audience="me", nonces=NONCES)
    token_issuer.rotate()
    assert verified(token, token_issuer)
    token_issuer.rotate()
    with pytest.raises(ValueError, match="not enough values"):
        verified(token, token_issuer)


def test_documents_break_and_heal(token_issuer):
    token_issuer.set_faults(jwks="down")
    assert token_issuer.faults.jwks == "down"
    token = token_issuer.token(audience="me", nonces=NONCES)
    with pytest.raises(ValueError, match="Expecting value"):
        verified(token, token_issuer)
    token_issuer.set_faults(jwks=None)
    assert verified(token, token_issuer)


def test_the_launcher_serves_the_machine_of_the_moment(launcher, token_issuer):
    body = {"audience": "me", "nonces": list(NONCES), "token_type": "OIDC"}
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(launcher.socket)), base_url="http://launcher") as client:
        assert verified(client.post("/v1/token", json=body).text, token_issuer)["dbgstat"] == "disabled-since-boot"
        launcher.machine = dataclasses.replace(launcher.machine, debug=True)
        assert verified(client.post("/v1/token", json=body).text, token_issuer)["dbgstat"] == "enabled"
        launcher.machine = dataclasses.replace(launcher.machine, fault="error")
        assert client.post("/v1/token", json=body).status_code == httpx.codes.INTERNAL_SERVER_ERROR


async def test_in_an_asynchronous_test_as_well(token_issuer):
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{token_issuer.url}/.well-known/openid-configuration")).status_code == httpx.codes.OK


def test_an_error_backstage_reaches_the_test(mcbn_backstage):
    @contextlib.asynccontextmanager
    async def fails(why):
        if why:
            raise SimulatorError(why)
        yield

    with pytest.raises(SimulatorError, match="no room"), mcbn_backstage.inside(fails("no room")):
        pytest.fail("the block does not begin")
