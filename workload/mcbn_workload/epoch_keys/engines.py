"""Which library's engines run a channel under a PSK."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from mcbn_protocol.key_schedule import Purpose
from mcbn_protocol.manifest import ChannelKind
from mcbn_protocol.secret import Secret
from mcbn_workload.channels.dtls_psk import DtlsPskClient, DtlsPskServer
from mcbn_workload.channels.engine import Acceptor, Engine, EngineFactory
from mcbn_workload.channels.psk import PskLookup, Terms
from mcbn_workload.channels.tls_psk import TLS12_PSK, TLS13_PSK, TlsPskClient, TlsPskServer
from mcbn_workload.kinds import MTU, EngineName, check_engine

PURPOSES: Final = {
    ChannelKind.TLS13_PSK: Purpose.TLS13_PSK,
    ChannelKind.TLS12_PSK: Purpose.TLS12_PSK,
    ChannelKind.DTLS12_PSK: Purpose.DTLS12_PSK,
}

NewClient = Callable[[str, Secret, Terms], Callable[[], Engine]]
NewServer = Callable[[PskLookup, Callable[[], Terms]], EngineFactory | Acceptor]


@dataclass(frozen=True)
class PskEngines:
    """What makes the engines of one kind of channel.

    Attributes:
        client: Takes identity, key and terms; returns what makes the client's engines.
        server: Takes a look-up of keys and of terms; returns what makes the server's, or accepts its peers.
    """

    client: NewClient
    server: NewServer


def psk_engines(channel: ChannelKind, engine: EngineName, *, mtu: int = MTU) -> PskEngines:
    """Return the engines of a channel.

    Raises:
        ConfigurationError: The library cannot do this channel.
        EngineUnavailableError: It is not installed.
    """
    check_engine(channel, engine)
    if engine is EngineName.MBEDTLS:
        return _mbedtls(channel, mtu)
    if channel is ChannelKind.DTLS12_PSK:
        return PskEngines(
            lambda identity, psk, terms: DtlsPskClient(identity, psk, terms=terms, mtu=mtu),
            lambda lookup, terms: DtlsPskServer(lookup, terms=terms, mtu=mtu),
        )
    version = TLS13_PSK if channel is ChannelKind.TLS13_PSK else TLS12_PSK
    return PskEngines(
        lambda identity, psk, terms: TlsPskClient(identity, psk, version=version, terms=terms),
        lambda lookup, terms: TlsPskServer(lookup, version=version, terms=terms),
    )


def _mbedtls(channel: ChannelKind, mtu: int) -> PskEngines:
    # An extra: loaded only where the image's configuration asks for it.
    mbedtls = import_module("mcbn_workload.channels.mbedtls")
    if channel is ChannelKind.DTLS12_PSK:
        return PskEngines(
            lambda identity, psk, terms: mbedtls.MbedDtlsPskClient(identity, psk, terms=terms, mtu=mtu),
            lambda lookup, terms: mbedtls.MbedDtlsPskServer(lookup, terms=terms, mtu=mtu),
        )
    return PskEngines(
        lambda identity, psk, terms: mbedtls.MbedTlsPskClient(identity, psk, terms=terms),
        lambda lookup, terms: mbedtls.MbedTlsPskServer(lookup, terms=terms),
    )
