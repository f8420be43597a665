"""The two listeners of a broker, for workloads and for its operator, as uvicorn servers that leave signals alone."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from mcbn_broker.api.places import Places
from mcbn_broker.app.acceptor import Acceptor, Leave
from mcbn_broker.app.http_protocol import DeadlineProtocol
from mcbn_broker.errors import UsageError
from mcbn_broker.settings import Settings, split_address

_BACKLOG = 512
_HEALTH_CONNECTIONS = 64
_GRACE_SECONDS = 1.0  # by which the connection outlives the application's own deadline, so that it can answer 408


class Server(uvicorn.Server):
    """A uvicorn server whose process handles signals itself, because two of them live in one loop.

    It also accepts connections itself: uvicorn knows no limit on them, only one above which it answers everybody 503.
    """

    def __init__(self, config: uvicorn.Config, places: Places, *, handshake_seconds: float) -> None:
        super().__init__(config)
        self.places = places
        self.listening = asyncio.Event()
        self._handshake_seconds = handshake_seconds
        self._acceptors: list[Acceptor] = []
        self._ended = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `stop`; what is in flight is finished first."""
        try:
            await super().serve(sockets)
        finally:
            self._ended.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and say so by the event `listening`."""
        await super().startup([])
        self._acceptors = [
            Acceptor(
                one, self._make_protocol, self.places, tls=self.config.ssl, handshake_seconds=self._handshake_seconds
            )
            for one in sockets or ()
        ]
        self.listening.set()

    def _make_protocol(self, leave: Leave) -> asyncio.Protocol:
        make: type[DeadlineProtocol] = self.config.http_protocol_class  # type: ignore[assignment]  # what `_config` gave
        protocol = make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        protocol.when_lost = leave
        return protocol

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nothing more, and finish what is in flight."""
        for acceptor in self._acceptors:
            acceptor.close()
        await super().shutdown(sockets)

    async def stop(self) -> None:
        """Accept nothing more, finish what is in flight (at most `stop_seconds`), and return."""
        self.should_exit = True
        await self._ended.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


def bind(address: str, *, option: str) -> socket.socket:
    """Return a listening socket.

    Args:
        address: `HOST:PORT`.
        option: What sets it, for the error: nobody needs to have typed the address.

    Raises:
        UsageError: The address cannot be bound, with the system's reason.
    """
    host, port = split_address(address)
    try:
        family, kind, protocol, _name, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as on_error:
            listener = on_error.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(_BACKLOG)
            on_error.pop_all()
    except OSError as error:
        raise UsageError(f"cannot listen on {address}: {error.strerror}; {option} names another address") from error
    return listener


def address_of(listener: socket.socket) -> str:
    """Return `HOST:PORT` or `[IPV6]:PORT` of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def broker_server(api: ASGIApp, settings: Settings) -> Server:
    """Return the server that workloads reach, with TLS if there is a certificate.

    Raises:
        UsageError: Certificate or key cannot be read, or do not belong together.
    """
    config = _config(api, settings)
    if settings.tls_certificate is not None and settings.tls_key is not None:
        _readable(settings.tls_certificate, settings.tls_key)
        config.ssl_certfile = str(settings.tls_certificate)
        config.ssl_keyfile = str(settings.tls_key)
    try:
        config.load()
    except OSError as error:
        raise UsageError(f"tls_certificate and tls_key: {error}") from error
    places = Places(total=settings.connections, each=settings.connections_per_client)
    return Server(config, places, handshake_seconds=settings.header_seconds)


def health_server(health: ASGIApp, settings: Settings) -> Server:
    """Return the operator's server, always plain HTTP."""
    places = Places(total=_HEALTH_CONNECTIONS, each=_HEALTH_CONNECTIONS)
    return Server(_config(health, settings), places, handshake_seconds=settings.header_seconds)


def _readable(*files: Path) -> None:
    for file in files:
        if not file.is_file():
            raise UsageError(f"{file}: no such file")


def _config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=DeadlineProtocol.bound_to(
            header_seconds=settings.header_seconds,
            body_seconds=settings.body_seconds + _GRACE_SECONDS,
            write_seconds=settings.write_seconds,
        ),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.stop_seconds,
        backlog=_BACKLOG,
    )
