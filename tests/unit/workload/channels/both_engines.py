"""What the suites over both TLS libraries share: how they are parametrised, and foreign ends of old versions."""

from typing import Any

import pytest
from OpenSSL import SSL

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import openssl
from mcbn_workload.channels.mbedtls_datagrams import split_records
from mcbn_workload.channels.psk import NO_TERMS, PskClient
from mcbn_workload.channels.tls_psk import TLS12_PSK
from tests.unit.workload.channels.engine_pairs import (
    IDENTITY,
    KEY,
    LIBRARIES,
    PAIRS,
    SUITES,
    Wire,
    read_all,
)
from tests.unit.workload.channels.test_channels_tls_psk import Foreign

CLIENT_HELLO, SERVER_HELLO, HELLO_VERIFY_REQUEST, SERVER_KEY_EXCHANGE, CLIENT_KEY_EXCHANGE = 1, 2, 3, 12, 16
SECURE_RENEGOTIATION = b"\0\5\xff\1\0\1\0"  # the extension, without which OpenSSL takes no ServerHello: RFC 5746
OLD_SUITE = "PSK-AES128-CBC-SHA"  # in every version since TLS 1.0: RFC 4279
NO_LEVEL = "PSK-AES128-CCM8"  # among a server's terms, it takes OpenSSL to level 0, which has no floor of its own
pairs = pytest.mark.parametrize("pair", PAIRS, ids="-to-".join)
libraries = pytest.mark.parametrize("library", LIBRARIES)
suites = pytest.mark.parametrize("suite", SUITES)
reverses = pytest.mark.parametrize("reverse", [False, True], ids=["client to server", "server to client"])
Pair = tuple[str, str]


def old_client(version: int, method: int = SSL.TLS_METHOD) -> Any:
    """A client of one old version, with the right identity, the right key and a suite that the version has."""
    keep = PskClient(TLS12_PSK, IDENTITY, Secret(KEY), NO_TERMS)
    callbacks = []

    def configure(context: SSL.Context) -> None:
        context.set_cipher_list(f"{OLD_SUITE}@SECLEVEL=0".encode())
        context.set_min_proto_version(version)
        context.set_max_proto_version(version)
        callbacks.append(openssl.set_psk_client(context, keep._offer))

    end: Any = (Foreign if method == SSL.TLS_METHOD else ForeignDatagrams)(
        server=False, configure=configure, method=method
    )
    end.keep = callbacks  # OpenSSL refers to them
    return end


class ForeignDatagrams(Foreign):
    """The same over datagrams."""

    def outgoing(self) -> list[bytes]:
        return [record for flight in super().outgoing() for record in split_records(flight)]


def assert_alive(wire: Wire) -> None:
    assert wire.server is not None
    for source, sink in ((wire.client, wire.server), (wire.server, wire.client)):
        source.write(b"alive")
        for datagram in source.outgoing():
            sink.feed(datagram)
        assert b"alive" in read_all(sink)
