"""Both ends of ours for TLS 1.2 and DTLS 1.2, on either TLS library, as foreign peers meet them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from mcbn_protocol.manifest import ChannelKind
from mcbn_protocol.secret import Secret
from mcbn_workload.channels.datagram_listener import DatagramServer, serve_datagram_channels
from mcbn_workload.channels.datagrams import DatagramChannel, open_datagram_channel
from mcbn_workload.channels.listener import ChannelServer, serve_channels
from mcbn_workload.channels.psk import Terms
from mcbn_workload.channels.streams import Channel, open_channel
from mcbn_workload.epoch_keys.engines import PskEngines, psk_engines
from mcbn_workload.kinds import EngineName
from tests.interop.peers import IDENTITY, KEY, echo, owned

CHACHA: Final = "ECDHE-PSK-CHACHA20-POLY1305"
GCM: Final = "PSK-AES128-GCM-SHA256"
CCM8: Final = "PSK-AES128-CCM8"
SUITES: Final = (CHACHA, GCM, CCM8)
ENGINES: Final = tuple(EngineName)
IANA: Final = {
    CHACHA: "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256",
    GCM: "TLS_PSK_WITH_AES_128_GCM_SHA256",
    CCM8: "TLS_PSK_WITH_AES_128_CCM_8",
}


def offered(suite: str) -> str:
    """The suite in OpenSSL's cipher list: a tag of eight bytes is below its level 1."""
    return suite + ("@SECLEVEL=0" if suite == CCM8 else "")


def terms(suite: str) -> Terms:
    return Terms() if suite == CHACHA else Terms((suite,))


def _engines(channel: ChannelKind, engine: EngineName) -> PskEngines:
    return psk_engines(channel, engine)


def _table(identity: bytes) -> Secret | None:
    return {IDENTITY.encode(): Secret(KEY)}.get(identity)


@asynccontextmanager
async def tls_server(engine: EngineName, suite: str) -> AsyncIterator[ChannelServer]:
    factory: Any = _engines(ChannelKind.TLS12_PSK, engine).server(_table, lambda: terms(suite))
    async with serve_channels("127.0.0.1", 0, factory, echo, **owned()) as server:
        yield server


async def tls_client(engine: EngineName, suite: str, port: int) -> Channel:
    factory: Any = _engines(ChannelKind.TLS12_PSK, engine).client(IDENTITY, Secret(KEY), terms(suite))
    return await open_channel("127.0.0.1", port, factory, **owned())


async def echo_datagrams(channel: DatagramChannel) -> None:
    while data := await channel.receive():
        channel.send(data)


@asynccontextmanager
async def dtls_server(engine: EngineName, suite: str) -> AsyncIterator[DatagramServer]:
    acceptor: Any = _engines(ChannelKind.DTLS12_PSK, engine).server(_table, lambda: terms(suite))
    async with serve_datagram_channels("127.0.0.1", 0, acceptor, echo_datagrams, **owned()) as server:
        yield server


async def dtls_client(engine: EngineName, suite: str, port: int, *, handshake_seconds: float = 30) -> DatagramChannel:
    factory: Any = _engines(ChannelKind.DTLS12_PSK, engine).client(IDENTITY, Secret(KEY), terms(suite))
    return await open_datagram_channel("127.0.0.1", port, factory, **owned(handshake_seconds))
