import base64
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mcbn_simulator.control import ControlClient
from mcbn_simulator.document_faults import DOCUMENT_FAULTS, DocumentFaults
from mcbn_simulator.errors import ControlError, FaultError, ListenError, ServiceError, SimulatorError
from mcbn_simulator.issuer import DISCOVERY_PATH, JWKS_PATH, PKI_ROOT_PATH, Issuer
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.public_documents import issuer_app
from mcbn_simulator.serving import serve_control, serve_issuer
from mcbn_simulator.token_options import TokenOptions

Verify = Callable[[str, dict[str, Any]], dict[str, Any]]


def test_discovery_document(issuer: Issuer) -> None:
    document = issuer.discovery()
    assert document["issuer"] == "http://issuer.test"
    assert document["jwks_uri"].startswith("http://issuer.test/")
    assert document["response_types_supported"] == ["id_token"]
    assert document["subject_types_supported"] == ["public"]
    assert document["id_token_signing_alg_values_supported"] == ["RS256"]
    assert document["scopes_supported"] == ["openid"]
    assert {"eat_nonce", "hwmodel", "submods", "secboot", "dbgstat"} <= set(document["claims_supported"])


def test_key_set(issuer: Issuer) -> None:
    keys = issuer.jwks()["keys"]
    assert len({key["kid"] for key in keys}) == len(keys) == 2
    for key in keys:
        assert set(key) == {"kty", "n", "e", "kid", "alg", "use"}
        assert (key["kty"], key["alg"], key["use"], key["e"]) == ("RSA", "RS256", "sig", "AQAB")
        assert len(base64.urlsafe_b64decode(key["n"] + "==")) == 256
        assert re.fullmatch("[0-9a-f]{40}", key["kid"])


def test_keys_are_made_anew_for_each_issuer(issuer: Issuer) -> None:
    moduli = {key["n"] for key in issuer.jwks()["keys"]} | {key["n"] for key in Issuer().jwks()["keys"]}
    assert len(moduli) == 4


def test_private_keys_are_not_shown(issuer: Issuer) -> None:
    assert repr(issuer.signing_key) == f"SigningKey(kid='{issuer.signing_key.kid}')"


def test_token_is_rs256_over_exactly_the_claims(issuer: Issuer, verified: Verify) -> None:
    token = issuer.sign({"iss": 7, "any": ["thing"]})
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "kid": issuer.signing_key.kid, "typ": "JWT"}
    payload = token.split(".")[1]
    assert json.loads(base64.urlsafe_b64decode(payload + "==")) == {"iss": 7, "any": ["thing"]}
    assert verified(issuer.sign({"a": 1}), issuer.jwks()) == {"a": 1}


def test_more_headers(issuer: Issuer) -> None:
    header = jwt.get_unverified_header(issuer.sign({}, headers={"x5c": ["MIIB"], "kid": "other"}))
    assert header == {"alg": "RS256", "kid": "other", "typ": "JWT", "x5c": ["MIIB"]}


@pytest.mark.parametrize("headers", [{"alg": "none"}, {"kid": 5}])
def test_headers_that_cannot_be_signed(issuer: Issuer, headers: dict[str, Any]) -> None:
    with pytest.raises(SimulatorError):
        issuer.sign({}, headers=headers)


def test_rotation_keeps_the_last_key_and_forgets_the_one_before(issuer: Issuer, verified: Verify) -> None:
    token = issuer.sign({"a": 1})
    before = issuer.jwks()
    issuer.rotate()
    assert verified(token, issuer.jwks()) == {"a": 1}
    with pytest.raises(KeyError):
        verified(issuer.sign({}), before)
    issuer.rotate()
    assert len(issuer.jwks()["keys"]) == 2
    with pytest.raises(KeyError):
        verified(token, issuer.jwks())


def test_the_clock_is_the_callers(machine: SimulatedMachine, verified: Verify) -> None:
    now = [1000.0]
    issuer = Issuer("http://issuer.test", clock=lambda: now[0])
    assert verified(issuer.issue(machine, TokenOptions()), issuer.jwks())["iat"] == 1000
    now[0] += 500
    assert verified(issuer.issue(machine, TokenOptions()), issuer.jwks())["iat"] == 1500


def test_other_token_types_are_not_simulated(issuer: Issuer, machine: SimulatedMachine) -> None:
    with pytest.raises(ServiceError, match="LIMITED_AWS"):
        issuer.issue(machine, TokenOptions(token_type="LIMITED_AWS"))


def test_a_pki_token_has_a_chain_up_to_the_published_root(issuer: Issuer, machine: SimulatedMachine) -> None:
    token = issuer.issue(machine, TokenOptions(token_type="PKI"))
    encoded = [base64.b64decode(one) for one in jwt.get_unverified_header(token)["x5c"]]
    leaf, intermediate, root = map(x509.load_der_x509_certificate, encoded)
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    assert root == issuer.certificates.root.certificate
    (extension,) = leaf.extensions
    assert extension.value == x509.BasicConstraints(ca=False, path_length=None)
    key = leaf.public_key()
    assert isinstance(key, RSAPublicKey)
    assert key == issuer.signing_key.private_key.public_key()


async def test_the_root_certificate_is_announced_and_served(issuer: Issuer) -> None:
    transport = httpx.ASGITransport(issuer_app(issuer))
    async with httpx.AsyncClient(transport=transport, base_url=issuer.issuer_url) as client:
        announced = (await client.get(PKI_ROOT_PATH)).json()
        served = await client.get(announced["root_ca_uri"])
    assert x509.load_pem_x509_certificate(served.content) == issuer.certificates.root.certificate


def test_a_nameless_issuer_says_so(machine: SimulatedMachine) -> None:
    with pytest.raises(SimulatorError, match="set issuer_url"):
        Issuer().issue(machine, TokenOptions())
    with pytest.raises(SimulatorError, match="slash"):
        Issuer("http://issuer.test/")


async def test_served_documents(issuer: Issuer) -> None:
    async with serve_issuer(issuer) as url, httpx.AsyncClient(base_url=url) as client:
        discovery = await client.get(DISCOVERY_PATH)
        keys = await client.get(JWKS_PATH)
    assert discovery.json() == issuer.discovery()
    assert keys.json() == issuer.jwks()
    assert keys.headers["content-type"] == "application/json"
    assert re.fullmatch(r"public, max-age=\d+, must-revalidate, no-transform", keys.headers["cache-control"])
    assert issuer.issuer_url == "http://issuer.test"


async def test_serving_names_a_nameless_issuer() -> None:
    issuer = Issuer()
    async with serve_issuer(issuer) as url, httpx.AsyncClient() as client:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
        document = (await client.get(url + DISCOVERY_PATH)).json()
        assert document["issuer"] == url
        assert (await client.get(document["jwks_uri"])).json() == issuer.jwks()


async def test_a_taken_port_is_refused(issuer: Issuer) -> None:
    async with serve_issuer(issuer) as url:
        with pytest.raises(ListenError, match="--listen"):
            async with serve_issuer(issuer, port=int(url.rpartition(":")[2])):
                pytest.fail("it listens twice")


@pytest.mark.parametrize("name", ["discovery", "jwks"])
async def test_document_faults(issuer: Issuer, name: str) -> None:
    path, genuine = {"discovery": (DISCOVERY_PATH, issuer.discovery()), "jwks": (JWKS_PATH, issuer.jwks())}[name]
    answers: dict[str, httpx.Response] = {}
    async with serve_issuer(issuer) as url, httpx.AsyncClient(base_url=url) as client:
        for fault in DOCUMENT_FAULTS.keys() - {"slow"}:
            issuer.faults = DocumentFaults(**{name: fault})
            answers[fault] = await client.get(path)
        issuer.faults = DocumentFaults(**{name: "redirect"})
        assert (await client.get(path, follow_redirects=True)).json() == genuine
        issuer.faults = DocumentFaults()
        assert (await client.get(path)).json() == genuine
    assert answers["down"].status_code == 503
    assert answers["html"].headers["content-type"].startswith("text/html")
    assert answers["redirect"].status_code == 302
    assert len(answers["huge"].content) > 1 << 20
    assert answers["huge"].json() == genuine
    assert answers["empty"].json() == ({"keys": []} if name == "jwks" else {})
    with pytest.raises(UnicodeDecodeError):
        answers["garbage"].json()


async def test_a_slow_document_trickles(issuer: Issuer) -> None:
    issuer.faults = DocumentFaults(jwks="slow")
    async with (
        serve_issuer(issuer) as url,
        httpx.AsyncClient(base_url=url) as client,
        client.stream("GET", JWKS_PATH) as answer,
    ):
        chunks = answer.aiter_bytes()
        assert answer.status_code == 200
        assert await anext(chunks) == b"{"


def test_unknown_faults_are_refused() -> None:
    with pytest.raises(FaultError, match="trickle"):
        DocumentFaults(jwks="trickle")


async def test_control_interface(
    issuer: Issuer, machine: SimulatedMachine, short_folder: Path, verified: Verify
) -> None:
    path = short_folder / "private" / "control.sock"
    async with serve_control(issuer, path), ControlClient(path) as control:
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_mode & 0o777 == 0o600
        assert verified(await control.sign({"a": 1}), issuer.jwks()) == {"a": 1}
        token = await control.token(machine, TokenOptions(audience="me", nonces=("n" * 20,)))
        assert verified(token, issuer.jwks())["eat_nonce"] == "n" * 20
        before = issuer.signing_key.kid
        assert await control.rotate() == [before, issuer.signing_key.kid]
        await control.set_faults(jwks="down")
        await control.set_faults(discovery="html")
        assert issuer.faults == DocumentFaults(jwks="down", discovery="html")
        await control.set_faults(jwks=None, discovery=None)
        assert issuer.faults == DocumentFaults()
    assert not path.exists()


async def test_control_refusals(issuer: Issuer, machine: SimulatedMachine, short_folder: Path) -> None:
    path = short_folder / "control.sock"
    async with serve_control(issuer, path), ControlClient(path) as control:
        with pytest.raises(ServiceError, match="InvalidArgument"):
            await control.token(machine, TokenOptions(nonces=("short",)))
        with pytest.raises(ServiceError, match="trickle"):
            await control.set_faults(jwks="trickle")
        with pytest.raises(ServiceError, match="unknown members"):
            await control.set_faults(keys="down")
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://control") as client:
            assert (await client.post("/sign", content=b"{")).status_code == 400
            assert (await client.post("/sign", content=b"[]")).status_code == 400
            assert (await client.get("/sign")).status_code == 405


async def test_no_issuer_at_the_control_socket(short_folder: Path) -> None:
    async with ControlClient(short_folder / "nobody.sock") as control:
        with pytest.raises(ControlError, match="mcbn-simulator issuer"):
            await control.rotate()


async def test_a_live_socket_keeps_its_path(issuer: Issuer, short_folder: Path) -> None:
    path = short_folder / "control.sock"
    async with serve_control(issuer, path), ControlClient(path) as control:
        with pytest.raises(ListenError, match="Cannot listen"):
            async with serve_control(issuer, path):
                pytest.fail("it took the socket of a live issuer")
        assert await control.rotate()


async def test_an_abandoned_socket_is_replaced(issuer: Issuer, short_folder: Path) -> None:
    path = short_folder / "control.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    async with serve_control(issuer, path), ControlClient(path) as control:
        assert await control.rotate()


async def test_a_file_in_the_way_is_not_removed(issuer: Issuer, short_folder: Path) -> None:
    path = short_folder / "control.sock"
    path.write_text("precious")
    with pytest.raises(ListenError, match="Cannot listen"):
        async with serve_control(issuer, path):
            pytest.fail("it replaced a file")
    assert path.read_text() == "precious"
