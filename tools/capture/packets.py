"""Writes what two ends said as a capture file: IPv4 packets under made-up addresses, so that it takes no privileges.

The format is libpcap's classic one with link type 101, raw IP.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

CLIENT: Final = IPv4Address("192.0.2.1")  # RFC 5737 section 3
SERVER: Final = IPv4Address("192.0.2.2")
CLIENT_PORT: Final = 40000
SERVER_PORT: Final = 4433

_MAGIC: Final = 0xA1B2C3D4
_RAW_IP: Final = 101
_SNAP_BYTES: Final = 65535
_SEGMENT_BYTES: Final = 1400
_TCP: Final = 6
_UDP: Final = 17
_FIN, _SYN, _PUSH, _ACK = 1, 2, 8, 16
_STEP_MICROSECONDS: Final = 1000
_SECOND: Final = 1_000_000


@dataclass(frozen=True)
class Said:
    """What one end sent at once: a piece of a stream, or one datagram."""

    by_client: bool
    data: bytes


def capture_of_stream(said: Sequence[Said]) -> bytes:
    """Return the capture of one TCP connection, from its first packet to its last."""
    return _file(_segments(said))


def capture_of_datagrams(said: Sequence[Said]) -> bytes:
    """Return the capture of datagrams between two UDP ports."""
    return _file(_packet(one.by_client, _UDP, _datagram(one)) for one in said)


def _file(packets: Iterator[bytes]) -> bytes:
    head = struct.pack("<IHHiIII", _MAGIC, 2, 4, 0, 0, _SNAP_BYTES, _RAW_IP)
    return head + b"".join(_record(number, packet) for number, packet in enumerate(packets))


def _record(number: int, packet: bytes) -> bytes:
    seconds, microseconds = divmod(number * _STEP_MICROSECONDS, _SECOND)
    return struct.pack("<IIII", seconds, microseconds, len(packet), len(packet)) + packet


def _datagram(said: Said) -> bytes:
    source, target = _ports(said.by_client)
    return struct.pack(">HHHH", source, target, 8 + len(said.data), 0) + said.data  # RFC 768: 0 is no checksum


def _segments(said: Sequence[Said]) -> Iterator[bytes]:
    """Give the segments of a connection: the handshake, the data, and the end."""
    sent = {True: 0, False: 0}  # sequence numbers, by client or not; RFC 9293 section 3.4

    def segment(by_client: bool, flags: int, data: bytes = b"") -> bytes:
        acknowledged = sent[not by_client] if flags & _ACK else 0
        packet = _packet(by_client, _TCP, _segment(by_client, sent[by_client], acknowledged, flags, data))
        sent[by_client] += len(data) + (1 if flags & (_SYN | _FIN) else 0)
        return packet

    yield segment(True, _SYN)
    yield segment(False, _SYN | _ACK)
    yield segment(True, _ACK)
    for one in said:
        for start in range(0, len(one.data), _SEGMENT_BYTES):
            yield segment(one.by_client, _PUSH | _ACK, one.data[start : start + _SEGMENT_BYTES])
    yield segment(True, _FIN | _ACK)
    yield segment(False, _FIN | _ACK)
    yield segment(True, _ACK)


def _segment(by_client: bool, sequence: int, acknowledged: int, flags: int, data: bytes) -> bytes:
    source, target = _ports(by_client)

    def header(checksum: int) -> bytes:
        return struct.pack(">HHIIBBHHH", source, target, sequence, acknowledged, 5 << 4, flags, 0xFFFF, checksum, 0)

    pseudo = b"".join(one.packed for one in _addresses(by_client)) + struct.pack(">BBH", 0, _TCP, 20 + len(data))
    return header(_checksum(pseudo + header(0) + data)) + data


def _packet(by_client: bool, protocol: int, payload: bytes) -> bytes:
    source, target = (one.packed for one in _addresses(by_client))

    def header(checksum: int) -> bytes:
        length = 20 + len(payload)
        return struct.pack(">BBHHHBBH4s4s", 0x45, 0, length, 0, 0, 64, protocol, checksum, source, target)

    return header(_checksum(header(0))) + payload


def _addresses(by_client: bool) -> tuple[IPv4Address, IPv4Address]:
    return (CLIENT, SERVER) if by_client else (SERVER, CLIENT)


def _ports(by_client: bool) -> tuple[int, int]:
    return (CLIENT_PORT, SERVER_PORT) if by_client else (SERVER_PORT, CLIENT_PORT)


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
