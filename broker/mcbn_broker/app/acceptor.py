"""Accepts connections while there is room for them; those beyond are closed at once, and the old ones are served on."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from mcbn_broker.api.places import Places, client_of
from mcbn_broker.telemetry.logs import logger

Leave = Callable[[], None]
ProtocolFactory = Callable[[Leave], asyncio.Protocol]

_OUT_OF_RESOURCES_SECONDS: Final = 1.0  # accept(2) fails for want of descriptors or memory: others have to end first
_COMPLAIN_SECONDS: Final = 60.0


class Acceptor:
    """One listening socket.

    A connection has its place from the moment it is accepted: one that never begins its TLS handshake counts too.

    Args:
        listener: A listening socket.
        make_protocol: Makes a connection's protocol, which has to call its argument when the connection is lost.
        places: How many connections there may be.
        tls: The TLS context, or None for plain HTTP.
        handshake_seconds: How long a client may take for the TLS handshake, and for its end.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: ProtocolFactory,
        places: Places,
        *,
        tls: ssl.SSLContext | None,
        handshake_seconds: float,
    ) -> None:
        self._listener = listener
        self._make_protocol = make_protocol
        self._places = places
        self._how: dict[str, Any] = {}
        if tls is not None:
            limits = {"ssl_handshake_timeout": handshake_seconds, "ssl_shutdown_timeout": handshake_seconds}
            self._how = {"ssl": tls, **limits}
        self._loop = asyncio.get_running_loop()
        self._complained = -_COMPLAIN_SECONDS
        self._welcoming: set[asyncio.Task[None]] = set()
        listener.setblocking(False)
        self._accepting = self._loop.create_task(self._accept_forever())

    def close(self) -> None:
        """Accept nothing more, and drop what has not finished its handshake. The listener stays its owner's."""
        for task in (self._accepting, *self._welcoming):
            task.cancel()

    async def _accept_forever(self) -> None:
        while True:
            try:
                connection, address = await self._loop.sock_accept(self._listener)
            except OSError as error:
                logger().error("cannot_accept", detail=str(error))
                await asyncio.sleep(_OUT_OF_RESOURCES_SECONDS)
            else:
                self._admit(connection, client_of(address[0]) if isinstance(address, tuple) else "")

    def _admit(self, connection: socket.socket, client: str) -> None:
        leave = self._places.take(client)
        if leave is None:
            connection.close()
            self._complain(client)
            return
        task = self._loop.create_task(self._welcome(connection, leave))
        self._welcoming.add(task)
        task.add_done_callback(partial(self._welcomed, connection, leave))

    async def _welcome(self, connection: socket.socket, leave: Leave) -> None:
        protocol = self._make_protocol(leave)
        await self._loop.connect_accepted_socket(lambda: protocol, connection, **self._how)

    def _welcomed(self, connection: socket.socket, leave: Leave, task: asyncio.Task[None]) -> None:
        self._welcoming.discard(task)
        if task.cancelled() or task.exception() is not None:
            connection.close()
            leave()

    def _complain(self, client: str) -> None:
        now = self._loop.time()
        if now - self._complained >= _COMPLAIN_SECONDS:
            self._complained = now
            logger().warning("connections_refused", client=client, open=self._places.taken)
