"""The sessions that are recorded: one of each kind of channel, between our own ends, under demo keys and a key log.

The keys are made of published words, so anybody can make them: they protect nothing.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

from capture.packets import Said, capture_of_datagrams, capture_of_stream
from capture.relay import HOST, datagram_relay, stream_relay
from mcbn_protocol.identifiers import Role, sha256
from mcbn_protocol.key_schedule import epoch_secret
from mcbn_protocol.manifest import AgreedManifest, ChannelKind, Manifest, manifest_hash
from mcbn_protocol.psk_terms import PskSuite
from mcbn_protocol.secret import Secret
from mcbn_protocol.shares import Share
from mcbn_workload.brokers.leases import Clock
from mcbn_workload.channels import openssl
from mcbn_workload.channels.datagram_listener import serve_datagram_channels
from mcbn_workload.channels.datagrams import DatagramChannel, open_datagram_channel
from mcbn_workload.channels.dtls_psk import DTLS12_PSK, DtlsPskEngine
from mcbn_workload.channels.engine import Acceptor, DatagramEngine, Engine, EngineFactory, Negotiated
from mcbn_workload.channels.listener import serve_channels
from mcbn_workload.channels.psk import PskClient, Terms
from mcbn_workload.channels.registry import ChannelRegistry
from mcbn_workload.channels.streams import Channel, open_channel
from mcbn_workload.epoch_keys.engines import psk_engines
from mcbn_workload.epoch_keys.mutual_tls import MutualTlsOpener
from mcbn_workload.epoch_keys.openers import EpochChannel, Material, Opener, PskOpener
from mcbn_workload.key_log import key_log
from mcbn_workload.kinds import DATAGRAM_CHANNELS, MTU, EngineName
from mcbn_workload.settings import CertificateSettings

EXAMPLE: Final = Path(__file__).resolve().parents[2] / "tests" / "vectors" / "manifest.json"
REQUEST: Final = b"what the client's application says"
ANSWER: Final = b"what the server's application answers"
DAY: Final = 86400


@dataclass(frozen=True)
class Plan:
    """What to record.

    Attributes:
        name: What the files are called.
        kind: The kind of channel.
        only: The one suite that the client has, as an old peer might; None for our own client.
    """

    name: str
    kind: ChannelKind
    only: PskSuite | None = None

    @property
    def datagrams(self) -> bool:
        """Whether it is a channel over datagrams."""
        return self.kind in DATAGRAM_CHANNELS


PLANS: Final = (
    *(Plan(kind.value, kind) for kind in ChannelKind),
    Plan("dtls12-psk-old-peer", ChannelKind.DTLS12_PSK, PskSuite.AES128_GCM),
)


@dataclass(frozen=True)
class Session:
    """One recorded session.

    Attributes:
        plan: What was to be recorded.
        negotiated: What the client's end knows of it.
        capture: The capture file.
        key_log: The secrets of the same session, written by one of the ends.
        psk: Its PSK; None for mutual TLS.
    """

    plan: Plan
    negotiated: Negotiated
    capture: Path
    key_log: Path
    psk: Secret | None


@dataclass(frozen=True)
class _Ends:
    """Both ends' keys of one epoch; one end writes the key log."""

    client: EpochChannel
    server: EngineFactory | Acceptor


async def record(plan: Plan, folder: Path, *, by: Role = Role.SERVER) -> Session:
    """Record one session into a folder.

    Args:
        plan: What to record.
        folder: Where the two files go; both must be new.
        by: Which end writes the key log.
    """
    keys, capture = folder / f"{plan.name}.keys", folder / f"{plan.name}.pcap"
    ends, said = _ends(plan, keys, by), list[Said]()
    negotiated = await (_talk_in_datagrams if plan.datagrams else _talk)(ends, said)
    capture.write_bytes((capture_of_datagrams if plan.datagrams else capture_of_stream)(said))
    return Session(plan, negotiated, capture, keys, ends.client.psk)


def _ends(plan: Plan, keys: Path, by: Role) -> _Ends:
    openers = {role: _opener(plan, role, keys if role is by else None) for role in Role}
    material = _material(plan)
    server = openers[Role.SERVER].derive(material)
    return _Ends(openers[Role.CLIENT].derive(material), openers[Role.SERVER].server(lambda: [server]))


def _opener(plan: Plan, role: Role, keys: Path | None) -> Opener:
    watch = None if keys is None else key_log(keys)
    if plan.kind is ChannelKind.MTLS13:
        return MutualTlsOpener(role, CertificateSettings(), Clock(), lambda _agreed: watch)
    engines = psk_engines(plan.kind, EngineName.PYOPENSSL)
    if plan.only is not None:
        engines = replace(engines, client=partial(_OldClient, plan.only.value))
    return PskOpener(plan.kind, engines, lambda _agreed: watch)


class _OldClient:
    """A client over datagrams that has one suite only; the rest of it is our own."""

    def __init__(self, suite: str, identity: str, psk: Secret, terms: Terms) -> None:
        version = replace(DTLS12_PSK, suites=(suite,))
        self._client = PskClient(version, identity, psk, replace(terms, suites=()))

    def __call__(self) -> Engine:
        connection = openssl.DatagramConnection(self._client.context, server=False, mtu=MTU)
        return DtlsPskEngine(self._client, connection, server=False)


def _material(plan: Plan) -> Material:
    """Derive from demo shares, under the example manifest of the protocol's vectors with a key log."""
    bundle = json.loads(json.loads(EXAMPLE.read_text(encoding="utf-8"))["vectors"][0]["input"]["bundle"])
    now = int(time.time())
    payload = bundle["payload"] | {
        "channels": [plan.kind.value],
        "key_log": True,
        "valid_from": now,
        "valid_until": now + DAY,
    }
    if plan.only is not None:
        payload["insecure_psk_suites"] = [plan.only.value]
    if plan.kind is ChannelKind.MTLS13:
        payload["mutual_tls"] = {"leaf": "rsa", "scheme": "c2sp-det-keygen", "bits": 2048}
    manifest = Manifest.from_payload(payload)
    shares = {name: Share(sha256(f"demo share {name}".encode())) for name in manifest.commitments}
    agreed = AgreedManifest(manifest, manifest_hash(b"a demo"), b"")  # so that identities stay from run to run
    return Material(agreed, epoch_secret(manifest.scheme, shares))


def _owned() -> dict[str, Any]:
    return {"guard": lambda _identity: None, "registry": ChannelRegistry()}


def _expect(said: bytes, expected: bytes) -> None:
    if said != expected:
        raise RuntimeError(f"{said!r} arrived instead of {expected!r}")


async def _talk(ends: _Ends, said: list[Said]) -> Negotiated:
    async def answer(channel: Channel) -> None:
        _expect(await channel.read(), REQUEST)
        await channel.write(ANSWER)
        await channel.close()

    factory = cast("EngineFactory", ends.server)
    async with (
        serve_channels(HOST, 0, factory, answer, **_owned()) as server,
        stream_relay(server.addresses[0][1], said) as port,
    ):
        channel = await open_channel(HOST, port, ends.client.client_engine, **_owned())
        await channel.write(REQUEST)
        _expect(await channel.read(), ANSWER)
        _expect(await channel.read(), b"")
        await channel.close()
        return channel.negotiated


async def _talk_in_datagrams(ends: _Ends, said: list[Said]) -> Negotiated:
    answered = asyncio.Event()

    async def answer(channel: DatagramChannel) -> None:
        _expect(await channel.receive(), REQUEST)
        channel.send(ANSWER)
        _expect(await channel.receive(), b"")
        answered.set()

    acceptor = cast("Acceptor", ends.server)
    new_engine = cast("Callable[[], DatagramEngine]", ends.client.client_engine)
    async with (
        serve_datagram_channels(HOST, 0, acceptor, answer, **_owned()) as server,
        datagram_relay(server.addresses[0][1], said) as port,
    ):
        async with await open_datagram_channel(HOST, port, new_engine, **_owned()) as channel:
            channel.send(REQUEST)
            _expect(await channel.receive(), ANSWER)
            negotiated = channel.negotiated
        await answered.wait()
        return negotiated
