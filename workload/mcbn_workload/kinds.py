"""Which kinds of channels there are, over what they run, and which libraries can do them."""

from enum import StrEnum
from typing import Final

from mcbn_protocol.manifest import ChannelKind
from mcbn_workload.errors import ConfigurationError

MTU: Final = 1400  # bytes of a datagram's content: fits the networks of cloud providers, and holds QUIC's 1200
MTU_MIN: Final = 512
MTU_MAX: Final = 9000


class EngineName(StrEnum):
    """The libraries. Mbed TLS is the second, independent one; production images leave it out unless asked."""

    PYOPENSSL = "pyopenssl"
    MBEDTLS = "mbedtls"


DATAGRAM_CHANNELS: Final = frozenset({ChannelKind.DTLS12_PSK})
MBEDTLS_CHANNELS: Final = frozenset({ChannelKind.TLS12_PSK, ChannelKind.DTLS12_PSK})


def check_engine(channel: ChannelKind, engine: EngineName) -> None:
    """Check that a library can do a channel.

    Raises:
        ConfigurationError: It cannot.
    """
    if engine is EngineName.MBEDTLS and channel not in MBEDTLS_CHANNELS:
        raise ConfigurationError(
            f"the engine {engine} cannot do the channel {channel}: it does {', '.join(sorted(MBEDTLS_CHANNELS))}; "
            f"use engine = {EngineName.PYOPENSSL.value!r}"
        )
