"""TLS records at a workload's server, PSK and certificates, before anybody is authenticated."""

import datetime as dt
from contextlib import suppress
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_protocol.identifiers import Role
from mcbn_protocol.secret import Secret
from mcbn_workload.channels.certificates import Validity, credentials, derived_authority
from mcbn_workload.channels.errors import HandshakeError
from mcbn_workload.channels.mutual_tls import MutualTlsClient, MutualTlsKeys, MutualTlsServer
from mcbn_workload.channels.tls_psk import TlsPskClient, TlsPskServer

IDENTITY = "mcbn1.AAECAwQFBgcICQoLDA0ODw"
PSK = Secret(bytes(range(32)))
MAX_BYTES = 4096
MOMENT = dt.datetime.now(dt.UTC)
VALIDITY = Validity(MOMENT, MOMENT + dt.timedelta(days=1))
KEYS = {role: Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number, role in enumerate(Role, start=1)}
CA = derived_authority(Ed25519PrivateKey.from_private_bytes(b"\7" * 32), VALIDITY)
WORDS = (
    b"\x16\x03\x01",
    b"\x01\x00",
    IDENTITY.encode(),
    b".mcbn.invalid",
    b"\x00\x29",
    b"\x00\x33",
    b"\x00\x2b\x03\x04",
)


def end(role: Role) -> MutualTlsKeys:
    other = Role.SERVER if role is Role.CLIENT else Role.CLIENT
    shown = credentials(role, KEYS[role], CA, names=["far-end.example"], validity=VALIDITY)
    return MutualTlsKeys(shown, KEYS[other].public_key())


SERVER_KEYS, CLIENT_KEYS = end(Role.SERVER), end(Role.CLIENT)
SERVERS = (TlsPskServer({IDENTITY.encode(): PSK}.get), MutualTlsServer(lambda: [SERVER_KEYS]))
CLIENTS = (
    TlsPskClient(IDENTITY, PSK),
    TlsPskClient(IDENTITY, Secret(bytes(range(1, 33)))),
    TlsPskClient("mcbn1.another", PSK),
    MutualTlsClient(CLIENT_KEYS),
)


def flight(engine: Any) -> bytes:
    with suppress(HandshakeError):
        engine.handshake()
    return b"".join(bytes(one) for one in engine.outgoing())


def seeds() -> list[bytes]:
    hellos = [flight(client()) for client in CLIENTS]
    return [bytes([place]) + hello for hello in hellos for place in range(len(SERVERS))] + [b"\0GET / HTTP/1.1\r\n\r\n"]


def target(data: bytes) -> None:
    place, records = (data[0] if data else 0), data[1:]
    engine = SERVERS[place % len(SERVERS)]()
    half = len(records) // 2 if place & 2 else len(records)
    with suppress(HandshakeError):
        for piece in (records[:half], records[half:]):
            engine.feed(piece)
            assert not engine.handshake(), "one flight of a client's authenticates nobody"
            engine.outgoing()
        engine.feed_eof()
        assert not engine.handshake()
    assert engine.negotiated is None
    engine.outgoing()
    engine.close()
