"""systemd's side of a service: readiness messages (sd_notify(3)) and handed-over sockets (sd_listen_fds(3))."""

import os
import socket
from collections.abc import Mapping
from typing import Final

from mcbn_broker.errors import UsageError

_FIRST_FD: Final = 3


def notify(message: str, environment: Mapping[str, str]) -> None:
    """Send one message, such as `READY=1`, to the socket that NOTIFY_SOCKET names; do nothing without one."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(message.encode())


def watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Return how often to send `WATCHDOG=1` (half of WATCHDOG_USEC), or None without a watchdog for this process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2_000_000 if microseconds.isdigit() else None


def handed_over(environment: Mapping[str, str]) -> dict[str, socket.socket]:
    """Return the sockets of socket activation by name (LISTEN_FDNAMES): `broker` and `health`.

    Raises:
        UsageError: A socket with another name.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = int(environment.get("LISTEN_FDS", "0"))
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    if len(names) != count or not set(names) <= {"broker", "health"} or len(set(names)) != count:
        raise UsageError("socket activation: name the sockets with FileDescriptorName=broker and =health")
    return {name: socket.socket(fileno=_FIRST_FD + number) for number, name in enumerate(names)}
