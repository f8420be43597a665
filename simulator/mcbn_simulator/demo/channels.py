"""The channels that the demo opens, and who runs each end."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from mcbn_protocol.manifest import ChannelKind

# The second, independent TLS library is an extra without wheels for every Python.
_SECOND: Final = "mbedtls" if find_spec("mbedtls") else "pyopenssl"


@dataclass(frozen=True)
class Line:
    """A server and a client for one kind of channel.

    Attributes:
        name: Goes into the names of both VMs.
        title: What a person calls the channel.
        channel: The kind of channel.
        client_engine: The client's TLS library; the server's is always OpenSSL.
    """

    name: str
    title: str
    channel: ChannelKind
    client_engine: str = "pyopenssl"

    @property
    def datagrams(self) -> bool:
        """Whether it carries UDP."""
        return self.channel is ChannelKind.DTLS12_PSK


MAIN: Final = Line("", "TLS 1.3 PSK", ChannelKind.TLS13_PSK)
OTHERS: Final = (
    Line("dtls", f"DTLS 1.2 PSK (server on pyopenssl, client on {_SECOND})", ChannelKind.DTLS12_PSK, _SECOND),
    Line("mtls", "mutual TLS 1.3 with derived RSA keys", ChannelKind.MTLS13),
)
LINES: Final = (MAIN, *OTHERS)
