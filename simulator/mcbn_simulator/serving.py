"""Serving ASGI applications inside a running event loop: on loopback or on a unix socket, without signal handlers."""

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from mcbn_simulator.control import control_app
from mcbn_simulator.errors import ListenError
from mcbn_simulator.issuer import Issuer
from mcbn_simulator.launcher import ReadMachine, RequestToken, launcher_app
from mcbn_simulator.public_documents import issuer_app
from mcbn_simulator.token_file import keep_default_token_fresh, write_default_token

CONTROL_MODE: Final = 0o600
LAUNCHER_MODE: Final = 0o777
_SHUTDOWN_SECONDS: Final = 1
"""How long applications may take at the end, after their connections were cut."""


@contextlib.asynccontextmanager
async def serve_issuer(issuer: Issuer, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve the issuer's public documents over TCP; yields the URL, which names an issuer that has no name yet.

    Args:
        issuer: What to serve.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.

    Raises:
        ListenError: The address is not available.
    """
    listener = _listen_tcp(host, port)
    url = f"http://{_authority(listener)}"
    if not issuer.is_named:
        issuer.issuer_url = url
    async with _serving(issuer_app(issuer), listener):
        yield url


@contextlib.asynccontextmanager
async def serve_control(issuer: Issuer, path: Path) -> AsyncIterator[Path]:
    """Serve the issuer's control interface on a unix socket of mode 0600; yields its path.

    A missing folder is made with mode 0700.

    Raises:
        ListenError: The path is too long, taken, or not writable.
    """
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        path.parent.mkdir(mode=0o700)
    with _unix_listener(path, CONTROL_MODE) as listener:
        async with _serving(control_app(issuer), listener):
            yield path


@contextlib.asynccontextmanager
async def serve_launcher(
    path: Path, read_machine: ReadMachine, request_token: RequestToken, *, token_file: Path | None = None
) -> AsyncIterator[Path]:
    """Serve one VM's launcher on a unix socket of mode 0777; yields its path.

    Args:
        path: The socket; `/run/container_launcher/teeserver.sock` in a real VM.
        read_machine: The VM's description, asked for at every request.
        request_token: The attestation service.
        token_file: Where the default token is kept; None for no such file.

    Raises:
        ListenError: The path is too long, taken, or not writable.
        SimulatorError: The service gives no default token.
    """
    with _unix_listener(path, LAUNCHER_MODE) as listener, _removed_at_end(token_file):
        async with (
            _default_token(token_file, read_machine, request_token),
            _serving(launcher_app(read_machine, request_token), listener),
        ):
            yield path


@contextlib.asynccontextmanager
async def _default_token(
    path: Path | None, read_machine: ReadMachine, request_token: RequestToken
) -> AsyncIterator[None]:
    if path is None:
        yield
        return
    await write_default_token(path, read_machine, request_token)
    renewal = asyncio.create_task(keep_default_token_fresh(path, read_machine, request_token))
    try:
        yield
    finally:
        renewal.cancel()


@contextlib.contextmanager
def _removed_at_end(path: Path | None) -> Generator[None]:
    try:
        yield
    finally:
        if path is not None:
            path.unlink(missing_ok=True)


class _Server(uvicorn.Server):
    """uvicorn in somebody else's event loop: it says when it serves, and leaves signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()
        self.stopped = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()

    async def main_loop(self) -> None:
        """Nothing to do on uvicorn's ticks: there is no Date header to renew and no count of requests."""
        await self.stopped.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cut every connection first: a simulated hang has no other end."""
        for connection in self.server_state.connections:
            connection.transport.abort()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextlib.asynccontextmanager
async def _serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    server = _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        )
    )
    running = asyncio.create_task(server.serve(sockets=[listener]))
    ready = asyncio.create_task(server.serving.wait())
    try:
        await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
        if not running.done():  # otherwise it failed to start, and awaiting it below raises
            yield
    finally:
        server.stopped.set()
        ready.cancel()
        await running


def _listen_tcp(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ListenError(f"Cannot listen on {host} port {port}: {error}. Choose another --listen.") from error


def _authority(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if listener.family == socket.AF_INET6 else f"{host}:{port}"


@contextlib.contextmanager
def _unix_listener(path: Path, mode: int) -> Generator[socket.socket]:
    """A listening unix socket; its path disappears at the end."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_abandoned(path)
        listener.bind(str(path))
        path.chmod(mode)
        listener.listen()
    except OSError as error:
        listener.close()
        raise ListenError(f"Cannot listen on {path}: {error}. Choose another (short, unused) path.") from error
    try:
        yield listener
    finally:
        listener.close()
        path.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    """Remove the socket of a process that was killed; a live one keeps it, and binding fails."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass
