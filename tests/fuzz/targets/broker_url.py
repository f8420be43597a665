"""A broker's URL and TLS authority, as another participant's card or an operator names them."""

from contextlib import suppress
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding

from mcbn_broker.ceremony.certificates import read_certificates
from mcbn_broker.errors import CeremonyError
from mcbn_protocol.errors import MalformedError
from mcbn_protocol.manifest import BrokerAddress
from mcbn_protocol.participants import (
    check_broker_url,
    names_this_machine,
    plain_http_beyond_loopback,
    plain_http_to_a_name,
)
from mcbn_workload.brokers.addresses import Connector
from mcbn_workload.errors import ConfigurationError
from tests.fuzz.targets.tls_server import CA

PEM = CA.certificate.public_bytes(Encoding.PEM)
CONNECTOR = Connector()
URLS = (
    "https://alice.example/mcbn", "http://127.0.0.1:8443", "https://[::1]:9", "http://[::ffff:127.0.0.1]/",
    "http://localhost.", "https://xn--a.example", "http://0x7f.1", "https://1.2.3.4.", "http://0.0.0.0:65535",
)  # fmt: skip
WORDS = (
    b"http://",
    b"https://",
    b"[::",
    b"]",
    b":65535",
    b"127.0.0.1",
    b".localhost",
    b"xn--",
    b"-----BEGIN CERTIFICATE-----\n",
)


def seeds() -> list[bytes]:
    return [*(url.encode() for url in URLS), PEM, PEM * 2]


def target(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    with suppress(CeremonyError):
        assert read_certificates(text)
    for judge in (names_this_machine, plain_http_beyond_loopback, plain_http_to_a_name):
        assert isinstance(judge(text), bool)
    with suppress(MalformedError):
        check_broker_url(text)
        with suppress(ConfigurationError):
            client = CONNECTOR.client(BrokerAddress(text, None), insecure_http=True)
            split = urlsplit(text)
            assert client.base_url.raw_host.decode("ascii") == split.hostname
            assert client.base_url.scheme == split.scheme
            assert not client.base_url.userinfo
