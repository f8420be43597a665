"""TLS records at a workload's client: whatever answers where the far end was expected."""

from contextlib import suppress
from typing import Any

from mcbn_workload.channels.errors import HandshakeError
from tests.fuzz.targets.tls_server import CLIENTS, IDENTITY, SERVERS, flight

MAX_BYTES = 8192
WORDS = (b"\x16\x03\x03", b"\x02\x00", b"\x15\x03\x03\x00\x02\x02\x28", b"\x14\x03\x03\x00\x01\x01", IDENTITY.encode())
PAIR: tuple[tuple[Any, Any], ...] = ((CLIENTS[0], SERVERS[0]), (CLIENTS[3], SERVERS[1]))


def seeds() -> list[bytes]:
    found = []
    for place, (client, server) in enumerate(PAIR):
        engine = server()
        engine.feed(flight(client()))
        found.append(bytes([place]) + flight(engine))
    return [*found, b"\0\x15\x03\x03\x00\x02\x02\x28", b"\1\x15\x03\x03\x00\x02\x01\x00", b"\0HTTP/1.1 400 Bad\r\n\r\n"]


def target(data: bytes) -> None:
    engine = PAIR[data[0] % 2 if data else 0][0]()
    assert not engine.handshake()
    engine.outgoing()
    with suppress(HandshakeError):
        engine.feed(data[1:])
        assert not engine.handshake(), "an answer to another hello"
        engine.feed_eof()
        assert not engine.handshake()
    assert engine.negotiated is None
    engine.outgoing()
    engine.close()
