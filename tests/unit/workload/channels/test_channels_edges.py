"""The edges of the channels' parts: before there is a connection, after it has gone, and what nobody may ask for."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mcbn_protocol.secret import Secret
from mcbn_workload.channels import datagrams, mbedtls, openssl
from mcbn_workload.channels.datagrams import DatagramChannel
from mcbn_workload.channels.dtls_psk import DTLS12_PSK, DtlsPskClient
from mcbn_workload.channels.errors import ChannelClosedError
from mcbn_workload.channels.psk import NO_TERMS, PskServer, Terms
from mcbn_workload.channels.registry import ChannelRegistry, Limits
from mcbn_workload.channels.tls_psk import TLS12_PSK
from mcbn_workload.channels.wire import Wire
from mcbn_workload.errors import ConfigurationError, NoKeysError, WorkloadError


class Recorder:
    """A transport that keeps what it is asked for."""

    def __init__(self, *, closing: bool = False) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._closing = closing

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, _name: str) -> None:
        return None

    def set_write_buffer_limits(self, **limits: int) -> None:
        self.asked.append(("limits", limits))

    def write(self, data: bytes) -> None:
        self.asked.append(("write", bytes(data)))

    def write_eof(self) -> None:
        self.asked.append(("write_eof", None))

    def sendto(self, data: bytes) -> None:
        self.asked.append(("sendto", bytes(data)))

    def close(self) -> None:
        self.asked.append(("close", None))


async def test_a_wire_without_a_connection_drops_what_it_is_given() -> None:
    wire = Wire(lambda _piece: None)
    assert not wire.connected
    wire.send([b"x"])
    wire.send_eof()
    await asyncio.wait_for(wire.flushed(), 5)
    await asyncio.wait_for(wire.gone(), 5)


async def test_a_wire_that_is_closing_sends_nothing_more() -> None:
    wire, transport = Wire(lambda _piece: None), Recorder(closing=True)
    wire.connection_made(transport)  # type: ignore[arg-type]  # what the wire uses of a transport
    made = len(transport.asked)
    wire.send([b"x"])
    wire.send_eof()
    await asyncio.wait_for(wire.flushed(), 5)
    assert transport.asked[made:] == []


async def test_a_wire_sends_in_order_and_tells_only_who_asked_to_be_told() -> None:
    wire, transport = Wire(lambda _piece: None), Recorder()
    wire.connection_made(transport)  # type: ignore[arg-type]
    wire.send([b"a", b"b"])
    wire.send_eof()
    assert [one for one in transport.asked if one[0] != "limits"] == [
        ("write", b"a"),
        ("write", b"b"),
        ("write_eof", None),
    ]
    wire.connection_lost(None)
    await asyncio.wait_for(wire.gone(), 5)
    assert wire.eof


def test_a_datagram_socket_that_has_no_channel_yet_drops_everything() -> None:
    endpoint = datagrams._ClientEndpoint()
    endpoint.datagram_received(b"early", ("127.0.0.1", 9))
    endpoint.error_received(OSError("nobody listens"))
    endpoint.transmit(b"too early")
    endpoint.close(None)  # type: ignore[arg-type]  # it does not look at it
    endpoint.connection_lost(None)
    assert endpoint.channel is None


def test_a_datagram_socket_drops_while_the_kernel_does_not_keep_up() -> None:
    endpoint, transport = datagrams._ClientEndpoint(), Recorder()
    endpoint.connection_made(transport)  # type: ignore[arg-type]
    endpoint.pause_writing()
    endpoint.transmit(b"dropped")
    endpoint.resume_writing()
    endpoint.transmit(b"sent")
    endpoint.close(None)  # type: ignore[arg-type]
    assert transport.asked == [("sendto", b"sent"), ("close", None)]


def channel(psk: SimpleNamespace, **changes: Any) -> DatagramChannel:
    arguments: dict[str, Any] = {
        "peer": "somebody",
        "limits": Limits(),
        "guard": lambda _identity: None,
        "registry": ChannelRegistry(),
        "ended": lambda _channel: None,
    }
    engine = DtlsPskClient(psk.identity, Secret(psk.key))()
    return DatagramChannel(engine, lambda _datagram: None, **(arguments | changes))


async def test_a_datagram_channel_says_nothing_of_a_handshake_that_was_not(psk: SimpleNamespace) -> None:
    one = channel(psk)
    with pytest.raises(ChannelClosedError, match="not complete"):
        assert one.negotiated
    one.abort(ChannelClosedError("enough"))
    before = one.reason
    one.feed(b"too late")
    assert one.reason is before


async def test_a_datagram_after_the_keys_were_forgotten_ends_the_channel(psk: SimpleNamespace) -> None:
    def forgotten(_identity: str | None) -> None:
        raise NoKeysError("Bob paused")

    one = channel(psk, guard=forgotten)
    one.feed(b"anything")
    assert isinstance(one.reason, NoKeysError)


def test_mbedtls_gets_no_key_outside_of_a_handshake() -> None:
    keys = mbedtls._Keys(lambda _identity: Secret(b"k" * 32))
    with pytest.raises(KeyError, match="no handshake"):
        assert keys["somebody"]


def test_mbedtls_refuses_terms_that_it_cannot_keep() -> None:
    with pytest.raises(ConfigurationError, match="key log"):
        mbedtls._suites(TLS12_PSK, Terms(watch=lambda _context: None))
    with pytest.raises(ConfigurationError, match="PSK-OF-NOBODY"):
        mbedtls._suites(DTLS12_PSK, Terms(suites=("PSK-OF-NOBODY",)))


def test_openssl_refuses_groups_that_it_does_not_know() -> None:
    context = PskServer(TLS12_PSK, lambda _identity: None, NO_TERMS).context
    with pytest.raises(openssl.OpenSslError):
        openssl.set_groups(context, b"curve-of-nobody")


def test_openssl_does_not_write_before_a_handshake() -> None:
    context = PskServer(TLS12_PSK, lambda _identity: None, NO_TERMS).context
    connection = openssl.MemoryConnection(context, server=True)
    with pytest.raises((openssl.OpenSslError, openssl.WantInputError, WorkloadError)):
        connection.write(b"too early")
