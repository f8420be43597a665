"""Parts of the smoke test: what a report keeps of a token, what reaches the collector, what the image trusts."""

import base64
import json
import shutil
import ssl
import subprocess
import sys
import threading
import time

import pytest

from mcbn_protocol.identifiers import Role
from mcbn_simulator.claims import claims_for
from mcbn_simulator.compose.layouts import BuiltImage
from mcbn_simulator.compose.tls import TlsAuthority
from mcbn_simulator.demo.listeners import loopback_listener
from mcbn_simulator.machine import SimulatedMachine
from mcbn_smoke import application
from mcbn_smoke.agreement import terms
from mcbn_smoke.certificates import Authority, trusted_name
from mcbn_smoke.cloud import Site
from mcbn_smoke.collector import Collector, collecting
from mcbn_smoke.errors import SmokeError
from mcbn_smoke.redaction import redacted, redacted_token
from tests.unit.deploy.conftest import DIGEST

MACHINE = SimulatedMachine(
    image_digest=DIGEST,
    image_reference="europe-docker.pkg.dev/secret-project/repository/client",
    env_override={"MCBN_CONNECT": "secret-address:7443"},
    project_id="secret-project",
    project_number="777000777",
    zone="secret-zone",
    instance_name="secret-name",
    instance_id="888000888",
    service_accounts=("secret@account",),
)


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def token_of(claims):
    return f"{encoded({'alg': 'RS256', 'kid': 'k', 'x5c': ['secret']})}.{encoded(claims)}.secret-signature"


@pytest.fixture
def claims():
    return claims_for(MACHINE, issuer="https://issuer", audience="mcbn-smoke", nonces=["n" * 10], now=1000)


def test_a_redacted_token_says_nothing_of_whose_vm_it_is_and_has_no_signature(claims):
    kept = redacted_token(token_of(claims))
    text = json.dumps(kept)
    for secret in ("secret", "777000777", "888000888"):
        assert secret not in text
    assert kept["header"] == {"alg": "RS256", "kid": "k", "x5c": "redacted"}


def test_a_redacted_token_keeps_what_a_verifier_looks_at(claims):
    kept = redacted_token(token_of(claims))["claims"]
    for name in ("iss", "aud", "hwmodel", "dbgstat", "swname", "secboot", "eat_nonce", "tdx", "attester_tcb"):
        assert kept[name] == claims[name]
    assert kept["submods"]["container"]["image_digest"] == DIGEST
    assert set(kept["submods"]["gce"]) == set(claims["submods"]["gce"])
    assert set(kept["submods"]["container"]["env"]) == set(claims["submods"]["container"]["env"])


@pytest.mark.parametrize("value", ["secret", 5, True, ["secret", "secret"], {"a": {"b": "secret"}}])
def test_a_claim_that_nobody_knows_is_redacted(value):
    assert "secret" not in json.dumps(redacted({"new_claim": value}))
    assert "5" not in json.dumps(redacted({"new_claim": value}))
    assert "rue" not in json.dumps(redacted({"new_claim": value}))


def test_an_absent_value_stays_absent():
    assert redacted({"submods": {"container": {"env_override": None}}}) == {
        "submods": {"container": {"env_override": None}}
    }


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c.d", "bm8.bm8.x", f"{encoded([])}.{encoded({})}.x"])
def test_what_is_no_token_is_refused(text):
    with pytest.raises(ValueError):  # noqa: PT011  # every reader of text has its own words
        redacted_token(text)


async def test_a_token_is_redacted_before_it_is_kept(claims):
    collector = Collector()
    await collector.take(json.dumps({"role": "client", "event": "token", "text": token_of(claims)}).encode())
    assert "secret" not in repr(vars(collector))
    assert collector.tokens["client"]["claims"]["dbgstat"] == "disabled-since-boot"


async def test_what_does_not_come_is_named_together_with_what_came():
    collector = Collector()
    await collector.take(b'{"role": "server", "event": "no_token", "text": "x"}')
    with pytest.raises(SmokeError, match=r"No page from the client's VM in 0 s; so far came: server: no_token"):
        await collector.report("client", "page", seconds=0)


def test_openssl_finds_an_authority_under_its_name(tmp_path, require_tool):
    certificate = TlsAuthority(time.time()).certificate
    command = [require_tool("openssl"), "x509", "-noout", "-subject_hash"]
    result = subprocess.run(command, input=certificate, capture_output=True, check=True)
    assert trusted_name(certificate) == f"{result.stdout.decode().strip()}.0"


@pytest.fixture
def authority():
    return Authority("127.0.0.1")


async def test_reports_come_over_tls_that_only_this_run_can_serve(tmp_path, authority):
    served = authority.serve(tmp_path)
    assert served.key.stat().st_mode & 0o777 == 0o600
    with loopback_listener() as listener:
        place = {"host": "127.0.0.1", "port": listener.getsockname()[1], "ca": authority.certificate.decode()}
        async with collecting(listener, served.certificate, served.key) as collector:
            reports = application.Reports(place, "client")
            threading.Thread(target=reports.say, args=("page",), kwargs={"text": "hello"}, daemon=True).start()
            report = await collector.report("client", "page", seconds=20)
            assert report.text == "hello"


def test_a_report_to_somebody_else_is_not_sent(tmp_path, authority):
    other = Authority("127.0.0.1").serve(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(other.certificate, other.key)
    received: list[object] = []
    with loopback_listener() as listener:

        def serve():
            plain, _ = listener.accept()
            with plain:
                try:
                    with context.wrap_socket(plain, server_side=True) as secure:
                        received.append(secure.recv(100))
                except OSError as error:
                    received.append(type(error))

        thread = threading.Thread(target=serve)
        thread.start()
        place = {"host": "127.0.0.1", "port": listener.getsockname()[1], "ca": authority.certificate.decode()}
        assert application.Reports(place, "client")._sent(b"secret\n") is False
        thread.join()
    assert b"secret\n" not in received


@pytest.mark.parametrize("plain", ["unix:{folder}/app.sock", "127.0.0.1:{port}"])
def test_the_visitor_reads_the_page_over_one_connection(tmp_path, plain):
    with loopback_listener() as listener:
        port = listener.getsockname()[1]
    plain = plain.format(folder=tmp_path, port=port)
    server = application.new_server(plain, "hello")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        pages = application.pages(plain)
        assert [next(pages), next(pages)] == ["hello", "hello"]
        pages.close()
    finally:
        server.shutdown()
        server.server_close()


def test_the_application_runs_where_nothing_of_ours_is_installed(tmp_path):
    path = tmp_path / "application.py"
    shutil.copy(application.__file__, path)
    result = subprocess.run([sys.executable, "-I", "-S", path], capture_output=True, text=True, check=False)
    assert "IndexError" in result.stderr  # it has imported everything, and misses its arguments


@pytest.mark.parametrize("debug", [False, True])
def test_the_terms_admit_production_only_unless_debug_was_asked_for(debug):
    site = Site("https://issuer.example", "123", "GCP_AMD_SEV", debug, "10.77.0.2", {}, "0.0.0.0:7443")
    image = BuiltImage(DIGEST, DIGEST, ("/bin/x",), ("client",), {"PATH": "/bin"})
    text = terms(site, {Role.CLIENT: image}, lease_seconds=60)
    assert ('dbgstat = "enabled"' in text) is debug
    assert ("insecure_debug = true" in text) is debug
    assert ('support_attribute = "STABLE"' in text) is not debug
    assert 'project_numbers = ["123"]' in text
    assert "LISTEN" not in text
