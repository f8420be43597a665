"""Sockets that are bound before the program that serves them starts: no port can be lost in between."""

import contextlib
import socket
from collections.abc import Generator


@contextlib.contextmanager
def loopback_listener() -> Generator[socket.socket]:
    """A listening socket on a free port of 127.0.0.1; a connection waits until somebody serves it."""
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        yield listener
    finally:
        listener.close()


def url_of(listener: socket.socket) -> str:
    """Where the socket is reached, in plain HTTP."""
    host, port = listener.getsockname()
    return f"http://{host}:{port}"
