"""Where a tunnel's plaintext may be: a loopback literal or a unix socket, and nowhere else."""

import ipaddress
from dataclasses import dataclass
from typing import Final

from mcbn_workload.errors import ConfigurationError

_UNIX_PREFIX: Final = "unix:"
_UNIX_PATH_BYTES_MAX: Final = 107  # sun_path of sockaddr_un, less its terminator
_PORT_MAX: Final = 65535


class PlaintextAddressError(ConfigurationError):
    """A plaintext address outside the container, or one whose meaning somebody else decides."""

    code = "plaintext_address_refused"


@dataclass(frozen=True, slots=True)
class LoopbackAddress:
    """A literal of 127.0.0.0/8 or ::1, and a port. Names are refused: the operator decides what they resolve to.

    Raises:
        PlaintextAddressError: anything else.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            raise _refused(self.host) from None
        if not address.is_loopback or (address.version == 6 and str(address) != "::1"):  # noqa: PLR2004  # IPv6
            raise _refused(self.host)
        if not 0 <= self.port <= _PORT_MAX:
            raise PlaintextAddressError(f"{self.port} is not a port: use 1 to {_PORT_MAX}")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The absolute path of a unix socket.

    Raises:
        PlaintextAddressError: a relative, abstract or over-long path.
    """

    path: str

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or "\0" in self.path or len(self.path.encode()) > _UNIX_PATH_BYTES_MAX:
            raise PlaintextAddressError(
                f"{self.path!r} is not an absolute socket path of at most {_UNIX_PATH_BYTES_MAX} bytes"
            )

    def __str__(self) -> str:
        return f"{_UNIX_PREFIX}{self.path}"


PlainAddress = LoopbackAddress | UnixAddress


def parse_plain_address(text: str) -> PlainAddress:
    """Read `127.0.0.1:8080`, `[::1]:8080` or `unix:/run/app.sock`.

    Raises:
        PlaintextAddressError: another form, or an address that is not loopback.
    """
    if text.startswith(_UNIX_PREFIX):
        return UnixAddress(text.removeprefix(_UNIX_PREFIX))
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or not (port.isascii() and port.isdigit()) or len(port) > len(str(_PORT_MAX)):
        raise PlaintextAddressError(f"{text!r} is neither ADDRESS:PORT nor {_UNIX_PREFIX}/PATH")
    return LoopbackAddress(host, int(port))


def _refused(host: str) -> PlaintextAddressError:
    return PlaintextAddressError(
        f"plaintext address {host!r} is not loopback: use a literal of 127.0.0.0/8, ::1, or a unix socket, "
        "because anything else would carry plaintext out of the container"
    )
