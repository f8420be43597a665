"""Which addresses are used, and that nothing of the environment steers the connection."""

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mcbn_protocol.manifest import BrokerAddress
from mcbn_workload.brokers.addresses import Connector, check_scheme
from mcbn_workload.brokers.http import NoAnswerError, exchange
from mcbn_workload.errors import ConfigurationError


@pytest.mark.parametrize("url", ["https://a.example", "http://127.0.0.1:8080", "http://[::1]:8080", "http://127.9.9.9"])
def test_https_and_loopback_literals_are_used(url):
    assert check_scheme(url, insecure_http=False) == url


@pytest.mark.parametrize("url", ["http://a.example", "http://localhost:80", "http://10.0.0.1", "http://[2001:db8::1]"])
def test_plain_http_needs_the_signed_manifest(url):
    with pytest.raises(ConfigurationError, match="plain http"):
        check_scheme(url, insecure_http=False)
    assert check_scheme(url, insecure_http=True) == url


def test_brokers_share_one_tls_context():
    connector = Connector()
    assert connector._context(None) is connector._context(None)
    assert connector._context(None).verify_mode is ssl.CERT_REQUIRED
    assert connector._context(None).check_hostname


def test_the_roots_do_not_come_from_the_environment(monkeypatch, tmp_path):
    expected = Connector()._context(None).cert_store_stats()
    keys = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    context = Connector()._context(None)
    assert not context.keylog_filename
    assert context.cert_store_stats() == expected
    assert not keys.exists()


@pytest.mark.parametrize("ca", ["no pem", "", "\0", "-----BEGIN CERTIFICATE-----\n# Soci\u00e9t\u00e9"])
def test_a_ca_that_cannot_be_read_is_a_configuration_error(ca):
    with pytest.raises(ConfigurationError, match="CA of a broker"):
        Connector().client(BrokerAddress("https://a.example", ca), insecure_http=False)


@pytest.mark.parametrize("url", ["https://256.1.1.1", "https://[:::]", "https://[1:2]", "http://127.0.0.1:99999"])
def test_a_url_that_leads_nowhere_is_a_configuration_error(url):
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Connector().client(BrokerAddress(url, None), insecure_http=False)


async def test_a_real_connection_ignores_proxies(monkeypatch):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        Connector().client(BrokerAddress(f"http://127.0.0.1:{port}/", None), insecure_http=False) as http,
    ):
        result = await exchange(http, "GET", "/v1/manifest", limit=10, seconds=5)
    assert (result.status, result.media_type, result.body) == (200, "application/json", b"{}")


@pytest.fixture
def certificate(tmp_path):
    """Make a certificate of 127.0.0.1 that signs itself; give its PEM and the file with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "broker.pem").write_bytes(pem + private)
    return pem.decode(), tmp_path / "broker.pem"


async def test_tls_is_checked_with_the_manifests_ca(certificate):
    async def answer(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 204 X\r\n\r\n")
            await writer.drain()
        writer.close()

    ca, file = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        async with Connector().client(BrokerAddress(url, ca), insecure_http=False) as http:
            assert (await exchange(http, "GET", "/", limit=10, seconds=5)).status == 204
        async with Connector().client(BrokerAddress(url, None), insecure_http=False) as http:
            with pytest.raises(NoAnswerError, match="CERTIFICATE_VERIFY_FAILED"):
                await exchange(http, "GET", "/", limit=10, seconds=5)


async def test_a_resetting_broker_gives_no_answer():
    async def reset(_reader, writer):
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, Connector().client(BrokerAddress(f"http://127.0.0.1:{port}", None), insecure_http=False) as http:
        with pytest.raises(NoAnswerError) as caught:
            await exchange(http, "GET", "/v1/manifest", limit=10, seconds=5)
    assert not caught.value.final
