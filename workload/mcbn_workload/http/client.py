"""An httpx transport that carries its requests over channels instead of connections of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

import httpcore
import httpx

from mcbn_workload.channels.streams import Channel
from mcbn_workload.errors import WorkloadError

T = TypeVar("T")

Connect = Callable[[], AbstractAsyncContextManager[Channel]]
"""Opens one channel while its block runs, such as `lambda: connect(settings, keys=keys)`."""


class ChannelTransport(httpx.AsyncBaseTransport):
    """Carries HTTP/1.1 over channels, several at once and each for many requests.

    Every URL goes to the same far end, whatever its host says, and its scheme is `http`: the channel protects it.
    Failures are httpx's own transport errors, with the channel's as their cause.

    Args:
        connect: Opens one channel.
        channels: The most channels open at once.
    """

    def __init__(self, connect: Connect, *, channels: int = 10) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=channels, max_keepalive_connections=channels, network_backend=_Backend(connect)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its answer, whose body is still to be read."""
        if request.url.scheme != "http":
            raise httpx.UnsupportedProtocol(f"a channel carries http:// URLs, not {request.url.scheme}://")
        try:
            answer = await self._pool.handle_async_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(scheme=b"http", host=b"far-end", port=None, target=request.url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        except _FAILURES as error:
            raise _translated(error) from error
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._pool.__aexit__(exc_type, exc_value, traceback)

    async def aclose(self) -> None:
        """Close every channel."""
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._answer.aiter_stream():
                yield piece
        except _FAILURES as error:
            raise _translated(error) from error

    async def aclose(self) -> None:
        await self._answer.aclose()


class _Backend(httpcore.AsyncNetworkBackend):
    """Opens a channel where httpcore asks for a TCP connection."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002  # every URL goes to the far end
        port: int,  # noqa: ARG002  # as above
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
        local_address: str | None = None,  # noqa: ARG002  # the workload's configuration decides
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002  # as above
    ) -> httpcore.AsyncNetworkStream:
        context = self._connect()
        try:
            return _Stream(context, await _within(timeout, context.__aenter__(), httpcore.ConnectTimeout))
        except WorkloadError as error:
            raise httpcore.ConnectError(str(error)) from error


class _Stream(httpcore.AsyncNetworkStream):
    """One channel, as httpcore sees it."""

    def __init__(self, context: AbstractAsyncContextManager[Channel], channel: Channel) -> None:
        self._context = context
        self._channel = channel

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
    ) -> bytes:
        try:
            return await _within(timeout, self._channel.read(max_bytes), httpcore.ReadTimeout)
        except WorkloadError as error:
            raise httpcore.ReadError(str(error)) from error

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's signature
    ) -> None:
        try:
            await _within(timeout, self._channel.write(buffer), httpcore.WriteTimeout)
        except WorkloadError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        try:
            await self._context.__aexit__(None, None, None)
        except WorkloadError as error:
            raise httpcore.NetworkError(str(error)) from error

    def get_extra_info(self, info: str) -> Any:
        """Say what httpcore asks: a channel with something to read or at its end cannot be used for a new request."""
        return self._channel.reason is not None or not self._channel.wire.connected if info == "is_readable" else None


_FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError)


def _translated(error: Exception) -> httpx.TransportError:
    kind = getattr(httpx, type(error).__name__, httpx.TransportError)
    translated: httpx.TransportError = kind(str(error))
    return translated


async def _within(seconds: float | None, waiting: Awaitable[T], expired: type[httpcore.TimeoutException]) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await waiting
    except TimeoutError as error:
        raise expired(f"no progress within {seconds:g} s") from error
