"""Handshakes of mutual TLS 1.3, our engine at both ends beside the standard library's `ssl`, in memory."""

import datetime as dt
import ssl
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bench.harness import Goal, Options, Report, Sample, doubt, measure
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mcbn_protocol.identifiers import Role
from mcbn_workload.channels.certificates import Credentials, Validity, credentials, derived_authority
from mcbn_workload.channels.engine import Engine
from mcbn_workload.channels.mutual_tls import MutualTlsClient, MutualTlsKeys, MutualTlsServer

OURS: Final = "our engine"
STDLIB: Final = "ssl"
_OPERATIONS: Final = 200
_MILLISECONDS: Final = 1000
_LIMIT: Final = 1.0


async def run(options: Options) -> Report:
    """Measure both with the same keys and certificates: RSA of 3072 bits."""
    operations = options.operations(_OPERATIONS)
    now = dt.datetime.now(dt.UTC)
    validity = Validity(now - dt.timedelta(hours=1), now + dt.timedelta(days=1))
    server, client, authority = (rsa.generate_private_key(65537, 3072) for _ in range(3))
    signer = derived_authority(authority, validity)
    shown = {
        Role.SERVER: credentials(Role.SERVER, server, signer, names=["far-end.example"], validity=validity),
        Role.CLIENT: credentials(Role.CLIENT, client, signer, names=["client.example"], validity=validity),
    }
    new_client = MutualTlsClient(MutualTlsKeys(shown[Role.CLIENT], server.public_key()))
    keys = MutualTlsKeys(shown[Role.SERVER], client.public_key())
    new_server = MutualTlsServer(lambda: [keys])
    with tempfile.TemporaryDirectory() as folder:
        contexts = {role: _context(role, shown, Path(folder)) for role in Role}

    async def ours() -> Sample:
        started = time.thread_time()
        for _ in range(operations):
            _shake(new_client(), new_server())
        return _each(started, operations)

    async def stdlib() -> Sample:
        started = time.thread_time()
        for _ in range(operations):
            _shake_stdlib(contexts)
        return _each(started, operations)

    series = await measure(options.rounds, "ms CPU", {STDLIB: stdlib, OURS: ours})
    yardstick = series[STDLIB]
    ratio = series[OURS].ratio(yardstick)
    return Report(
        f"Mutual TLS 1.3, RSA-3072 at both ends, {operations} handshakes a round, client and server together",
        yardstick,
        list(series.values()),
        [Goal(f"{OURS} / {STDLIB}", ratio, _LIMIT, doubt=doubt(yardstick, options.rounds))],
        notes=[f"ssl is on {ssl.OPENSSL_VERSION}, whose group is X25519; ours on cryptography's, with X25519MLKEM768."],
    )


def _shake(client: Engine, server: Engine) -> None:
    while client.negotiated is None or server.negotiated is None:
        for source, sink in ((client, server), (server, client)):
            source.handshake()
            for data in source.outgoing():
                sink.feed(data)
    server.handshake()


def _shake_stdlib(contexts: dict[Role, ssl.SSLContext]) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = contexts[Role.CLIENT].wrap_bio(to_client, to_server, server_hostname="far-end.example")
    server = contexts[Role.SERVER].wrap_bio(to_server, to_client, server_side=True)
    waiting: list[Any] = [client, server]
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)


def _context(role: Role, shown: dict[Role, Credentials], folder: Path) -> ssl.SSLContext:
    chain, key, ca = folder / f"{role}.pem", folder / f"{role}.key", folder / "ca.pem"
    pem = serialization.Encoding.PEM
    chain.write_bytes(shown[role].leaf.public_bytes(pem))
    key.write_bytes(shown[role].key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    ca.write_bytes(shown[role].authority.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if role is Role.SERVER else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(chain, key)
    context.load_verify_locations(ca)
    if role is Role.SERVER:
        context.num_tickets = 0
    return context


def _each(started: float, operations: int) -> Sample:
    return Sample((time.thread_time() - started) / operations * _MILLISECONDS)
