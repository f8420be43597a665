"""Datagrams at a workload's DTLS server, on both TLS libraries, from a peer that nobody has authenticated."""

from contextlib import suppress
from typing import Any

from mcbn_protocol.secret import Secret
from mcbn_workload.channels.dtls_psk import DtlsPskClient, DtlsPskServer
from mcbn_workload.channels.errors import HandshakeError
from mcbn_workload.channels.mbedtls import MbedDtlsPskClient, MbedDtlsPskServer

IDENTITY = "mcbn1.AAECAwQFBgcICQoLDA0ODw"
PSK = Secret(bytes(range(32)))
ADDRESS = b"192.0.2.7:4433"
MAX_BYTES = 4096
WORDS = (b"\x16\xfe\xff", b"\x16\xfe\xfd", b"\x01\x00", b"\x14\xfe\xfd\x00\x00", IDENTITY.encode(), b"\xcc\xac")

SERVERS = tuple(server({IDENTITY.encode(): PSK}.get) for server in (DtlsPskServer, MbedDtlsPskServer))
CLIENTS = (DtlsPskClient(IDENTITY, PSK), MbedDtlsPskClient(IDENTITY, PSK), DtlsPskClient("mcbn1.another", PSK))


def flight(engine: Any) -> list[bytes]:
    with suppress(HandshakeError):
        engine.handshake()
    return [bytes(one) for one in engine.outgoing()]


def joined(datagrams: list[bytes]) -> bytes:
    return b"".join(len(one).to_bytes(2, "big") + one for one in datagrams)


def seeds() -> list[bytes]:
    """For each client and server: a first ClientHello, the two with a cookie, and a whole flight behind them."""
    made = []
    for place, server in enumerate(SERVERS):
        for factory in CLIENTS:
            client, said, engine = factory(), [], None
            for _ in range(4):
                for datagram in flight(client):
                    said.append(datagram)
                    if engine is None:
                        engine = server.accept(datagram, ADDRESS)
                    else:
                        engine.feed(datagram)
                for answer in server.outgoing() if engine is None else flight(engine):
                    client.feed(answer)
                made.append(bytes([place]) + joined(said))
    return made


def datagrams(data: bytes) -> list[bytes]:
    found = []
    while data:
        size = int.from_bytes(data[:2], "big")
        found.append(data[2 : 2 + size])
        data = data[2 + size :]
    return found


def target(data: bytes) -> None:
    server, engine = SERVERS[(data[0] if data else 0) % len(SERVERS)], None
    with suppress(HandshakeError):
        for datagram in datagrams(data[1:]):
            if engine is None:
                engine = server.accept(datagram, ADDRESS)
                assert sum(map(len, server.outgoing())) <= len(datagram), "strangers are not amplified"
            else:
                engine.feed(datagram)
            if engine is not None:
                assert not engine.handshake(), "nobody who never heard the answer is authenticated"
                engine.outgoing()
    if engine is not None:
        assert engine.negotiated is None
        engine.outgoing()
        engine.close()
