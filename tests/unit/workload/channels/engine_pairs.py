"""Two ends of one channel in memory, each on either TLS library, and a network between them that a test rules."""

import time
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import Any, Final
from unittest.mock import patch

from mcbn_protocol.secret import Secret
from mcbn_workload.channels.dtls_psk import DtlsPskClient, DtlsPskServer
from mcbn_workload.channels.engine import Acceptor, DatagramEngine, Engine
from mcbn_workload.channels.mbedtls import MbedDtlsPskClient, MbedDtlsPskServer, MbedTlsPskClient, MbedTlsPskServer
from mcbn_workload.channels.psk import Terms, Version
from mcbn_workload.channels.tls_psk import TLS12_PSK, TlsPskClient, TlsPskServer
from tests.unit.workload.channels.stream_rules import attempt, shaken

LIBRARIES: Final = ("openssl", "mbedtls")
PAIRS: Final = tuple(product(LIBRARIES, LIBRARIES))
DEFAULT_SUITE: Final = "ECDHE-PSK-CHACHA20-POLY1305"
SUITES: Final = (DEFAULT_SUITE, "PSK-AES128-GCM-SHA256", "PSK-AES128-CCM8")
IDENTITY: Final = "mcbn1.AAECAwQFBgcICQoLDA0ODw"
KEY: Final = bytes(range(32))
ADDRESS: Final = b"('192.0.2.1', 40000)"
RECORD_HEADER: Final = 13
MESSAGE_HEADER: Final = 12  # of DTLS: type, length, sequence number, the fragment's place and length

Fate = Callable[[str, int, bytes], Iterable[bytes]]
"""Says what arrives of a datagram, given its direction ("c" from the client, "s" from the server) and number."""


def lookup(table: Mapping[str, bytes] | None = None) -> Callable[[bytes], Secret | None]:
    return {name.encode(): Secret(key) for name, key in (table or {IDENTITY: KEY}).items()}.get


def _terms(suite: str, also: tuple[str, ...] = ()) -> Terms:
    return Terms(() if suite == DEFAULT_SUITE else (suite, *also))


def _only(suite: str) -> Any:
    """Make a client offer this suite alone, as an old peer would."""
    return patch.object(Version, "allowed", lambda _self, _terms: (suite,))


def tls_client(library: str, *, suite: str = DEFAULT_SUITE, identity: str = IDENTITY, key: bytes = KEY) -> Engine:
    with _only(suite):
        if library == "mbedtls":
            return MbedTlsPskClient(identity, Secret(key))()
        return TlsPskClient(identity, Secret(key), version=TLS12_PSK)()


def tls_server(
    library: str,
    *,
    suite: str = DEFAULT_SUITE,
    also: tuple[str, ...] = (),
    table: Mapping[str, bytes] | None = None,
) -> Engine:
    if library == "mbedtls":
        return MbedTlsPskServer(lookup(table), terms=lambda: _terms(suite, also))()
    return TlsPskServer(lookup(table), version=TLS12_PSK, terms=lambda: _terms(suite, also))()


def dtls_client(
    library: str, *, suite: str = DEFAULT_SUITE, identity: str = IDENTITY, key: bytes = KEY, mtu: int = 1400
) -> DatagramEngine:
    factory = MbedDtlsPskClient if library == "mbedtls" else DtlsPskClient
    with _only(suite):
        return factory(identity, Secret(key), mtu=mtu)()


def dtls_acceptor(
    library: str,
    *,
    suite: str = DEFAULT_SUITE,
    also: tuple[str, ...] = (),
    table: Mapping[str, bytes] | None = None,
    mtu: int = 1400,
) -> Acceptor:
    factory = MbedDtlsPskServer if library == "mbedtls" else DtlsPskServer
    return factory(lookup(table), terms=lambda: _terms(suite, also), mtu=mtu)


def tls_channel(pair: tuple[str, str], suite: str = DEFAULT_SUITE) -> tuple[Engine, Engine]:
    return shaken(tls_client(pair[0], suite=suite), tls_server(pair[1], suite=suite))


def read_all(engine: Engine, size: int = 1 << 16) -> list[bytes]:
    return list(iter(lambda: engine.read(size), None))


def deliver(_direction: str, _number: int, datagram: bytes) -> Iterable[bytes]:
    return (datagram,)


def message_type(record: bytes) -> int | None:
    """Tell what handshake message a plaintext record carries; None for any other record."""
    plaintext_handshake = record[:1] == b"\x16" and record[3:5] == b"\0\0"
    return record[RECORD_HEADER] if plaintext_handshake else None


def renumbered(record: bytes, number: int) -> bytes:
    """Make room for seven records more after each one: nothing protects the numbers of plaintext records."""
    if record[3:5] != b"\0\0":
        return record
    return record[:5] + (8 * int.from_bytes(record[5:11]) + number).to_bytes(6) + record[11:]


def fragment(record: bytes, start: int, end: int, number: int) -> bytes:
    """Cut these bytes of a handshake message out, as a record of their own: RFC 6347 section 4.2.3."""
    header, body = record[RECORD_HEADER:][:MESSAGE_HEADER], record[RECORD_HEADER + MESSAGE_HEADER :]
    message = header[:6] + start.to_bytes(3) + (end - start).to_bytes(3) + body[start:end]
    return renumbered(record[:11] + len(message).to_bytes(2) + message, number)


class Wire:
    """One client, one server's port, and the datagrams between them."""

    def __init__(self, client: DatagramEngine, acceptor: Acceptor, fate: Fate = deliver) -> None:
        self.client = client
        self.acceptor = acceptor
        self.server: DatagramEngine | None = None
        self.sent: dict[str, list[bytes]] = {"c": [], "s": []}
        self._fate = fate
        self._towards_client: list[bytes] = []

    @property
    def done(self) -> bool:
        return None not in {self.client.negotiated, self.server and self.server.negotiated}

    @property
    def failures(self) -> list[Exception]:
        ends = [self.client] if self.server is None else [self.client, self.server]
        return [error for end in ends if (error := attempt(end)) is not None]

    def settle(self) -> None:
        """Carry datagrams until nobody has any."""
        for _ in range(50):
            if not (self._from_client() | self._from_server()):
                return
        raise AssertionError("the two ends never come to rest")

    def next_timeout(self) -> float:
        """Seconds until either end wants to send again; a handshake that nobody drives on is a failure."""
        waits = [self.client.next_timeout(), None if self.server is None else self.server.next_timeout()]
        return min(wait for wait in waits if wait is not None)

    def on_timeout(self) -> None:
        self.client.on_timeout()
        if self.server is not None:
            self.server.on_timeout()

    def _from_client(self) -> bool:
        attempt(self.client)
        arrived = self._fly("c", self.client.outgoing())
        for datagram in arrived:
            if self.server is None:
                self.server = self.acceptor.accept(datagram, ADDRESS)
                self._towards_client += map(bytes, self.acceptor.outgoing())
            else:
                self.server.feed(datagram)
        return bool(arrived)

    def _from_server(self) -> bool:
        if self.server is not None:
            attempt(self.server)
            if self.server.negotiated is not None:
                assert self.server.read(1 << 14) is None  # where the last flight is sent again
            self._towards_client += map(bytes, self.server.outgoing())
        towards_client, self._towards_client = self._towards_client, []
        arrived = self._fly("s", towards_client)
        for datagram in arrived:
            self.client.feed(datagram)
        return bool(arrived)

    def _fly(self, direction: str, datagrams: Iterable[bytes | bytearray]) -> list[bytes]:
        arrived: list[bytes] = []
        for datagram in map(bytes, datagrams):
            arrived += self._fate(direction, len(self.sent[direction]), datagram)
            self.sent[direction].append(datagram)
        return arrived


def dtls_wire(pair: tuple[str, str], fate: Fate = deliver, *, suite: str = DEFAULT_SUITE, mtu: int = 1400) -> Wire:
    return Wire(dtls_client(pair[0], suite=suite, mtu=mtu), dtls_acceptor(pair[1], suite=suite, mtu=mtu), fate)


def dtls_channel(
    pair: tuple[str, str], suite: str = DEFAULT_SUITE, *, mtu: int = 1400
) -> tuple[DatagramEngine, DatagramEngine]:
    wire = dtls_wire(pair, suite=suite, mtu=mtu)
    wire.settle()
    assert wire.done
    assert wire.server is not None
    return wire.client, wire.server


def settle_all(wires: list[Wire]) -> None:
    """Let all handshakes complete at once, each timer when it is due: both libraries' timers read the real clock."""
    waiting = wires
    while True:
        for wire in waiting:
            wire.settle()
        waiting = [wire for wire in waiting if not wire.done]
        if not waiting:
            return
        time.sleep(min(wire.next_timeout() for wire in waiting))
        for wire in waiting:
            wire.on_timeout()
