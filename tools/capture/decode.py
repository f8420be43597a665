"""Asks tshark what it reads in a capture."""

import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from capture.packets import CLIENT, SERVER_PORT, Said

_CLIENT_KEY_EXCHANGE: Final = "16"
_SERVER_HELLO: Final = "2"
_LENGTH_BYTES: Final = 2


class NoTsharkError(Exception):
    """There is no tshark on this machine."""


@dataclass(frozen=True)
class Decoded:
    """What tshark reads in one capture.

    Attributes:
        version: The protocol version that the server chose; as the two below, by tshark's names.
        suite: The cipher suite that it chose.
        identity: The PSK identity that the client named; None if there is none to be seen.
        names: The DNS names in certificates, the server's first.
        said: What the applications said.
    """

    version: str
    suite: str
    identity: str | None
    names: tuple[str, ...]
    said: tuple[Said, ...]


def tshark() -> str:
    """Return the path of tshark.

    Raises:
        NoTsharkError: There is none.
    """
    path = shutil.which("tshark")
    if path is None:
        raise NoTsharkError("there is no tshark: install it (Debian: apt-get install tshark)")
    return path


def tshark_version() -> str:
    """Return tshark's version, such as `4.0.17`."""
    said = subprocess.run([tshark(), "--version"], capture_output=True, text=True, check=True).stdout
    return next(word for word in said.split() if word[0].isdigit())


def options(capture: Path, *, datagrams: bool, key_log: Path | None = None, psk: bytes | None = None) -> list[str]:
    """Return tshark's options for a capture.

    Args:
        capture: The capture file.
        datagrams: Whether it is DTLS. tshark has to be told, as nothing in a port's number says what is on it.
        key_log: The sessions' secrets; the one option is for TLS and for DTLS.
        psk: The PSK.
    """
    transport, protocol = ("udp", "dtls") if datagrams else ("tcp", "tls")
    given = ["-r", str(capture), "-d", f"{transport}.port=={SERVER_PORT},{protocol}"]
    if key_log is not None:
        given += ["-o", f"tls.keylog_file:{key_log}"]
    if psk is not None:
        given += ["-o", f"{protocol}.psk:{psk.hex()}"]
    return given


def decode(capture: Path, *, datagrams: bool, key_log: Path | None = None, psk: bytes | None = None) -> Decoded:
    """Return what tshark reads in a capture; see `options`."""
    command = [tshark(), *options(capture, datagrams=datagrams, key_log=key_log, psk=psk), "-T", "pdml"]
    packets = list(ET.fromstring(subprocess.run(command, capture_output=True, check=True).stdout))  # noqa: S314  # tshark's
    protocol = "dtls" if datagrams else "tls"
    hello = next(one for _, one in _messages(packets, protocol) if _type(one) == _SERVER_HELLO)
    chosen = _shown(hello, f"{protocol}.handshake.extensions.supported_version")
    return Decoded(
        version=(chosen or _shown(hello, f"{protocol}.handshake.version"))[0],
        suite=_shown(hello, f"{protocol}.handshake.ciphersuite")[0],
        identity=_identity(packets, protocol),
        names=tuple(name for packet in packets for name in _shown(packet, "x509ce.dNSName")),
        said=tuple(
            Said(_by_client(packet), bytes.fromhex(field.get("value", "")))
            for packet in packets
            for field in _fields(packet, "data.data")
        ),
    )


def _fields(element: ET.Element, name: str) -> list[ET.Element]:
    return [field for field in element.iter("field") if field.get("name") == name]


def _shown(element: ET.Element, name: str) -> list[str]:
    """Return the values of a field as a reader sees them: without its label, and without the number in brackets."""
    return [field.get("showname", "").partition(": ")[2].partition(" (0x")[0] for field in _fields(element, name)]


def _messages(packets: list[ET.Element], protocol: str) -> Iterator[tuple[ET.Element, ET.Element]]:
    """Give each handshake message that can be read, with its packet."""
    for packet in packets:
        for message in _fields(packet, f"{protocol}.handshake"):
            if _type(message) is not None:
                yield packet, message


def _type(message: ET.Element) -> str | None:
    return next((field.get("show") for field in message if field.get("name", "").endswith(".handshake.type")), None)


def _by_client(packet: ET.Element) -> bool:
    return _shown(packet, "ip.src") == [str(CLIENT)]


def _identity(packets: list[ET.Element], protocol: str) -> str | None:
    names = (f"{protocol}.handshake.extensions.psk.identity.identity", f"{protocol}.handshake.identity")
    dissected = [field for packet in packets for name in names for field in _fields(packet, name)]
    if dissected:
        return bytes.fromhex(dissected[0].get("value", "")).decode("ascii")
    exchanges = (one for one in _messages(packets, protocol) if _type(one[1]) == _CLIENT_KEY_EXCHANGE)
    return next((_identity_in(packet, message) for packet, message in exchanges), None)


def _identity_in(packet: ET.Element, message: ET.Element) -> str:
    """Read the identity in the bytes of a ClientKeyExchange, for tshark does not: RFC 5489 section 2."""
    (payload,) = (*_fields(packet, "tcp.payload"), *_fields(packet, "udp.payload"))
    start, size = int(message.get("pos", "")) - int(payload.get("pos", "")), int(message.get("size", ""))
    whole = bytes.fromhex(payload.get("value", ""))[start : start + size]
    body = whole[sum(int(field.get("size", "")) for field in message) :]  # all that tshark reads of it is its header
    length = int.from_bytes(body[:_LENGTH_BYTES])
    return body[_LENGTH_BYTES : _LENGTH_BYTES + length].decode("ascii")
