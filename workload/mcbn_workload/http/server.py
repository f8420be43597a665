"""Serves an ASGI 3 application over channels, HTTP/1.1 by h11 (which httpx brings along)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import unquote

import h11

from mcbn_workload.channels.errors import ChannelClosedError
from mcbn_workload.channels.streams import Channel
from mcbn_workload.errors import WorkloadError

_log: Final = logging.getLogger("mcbn.workload.http")

Message = MutableMapping[str, Any]
Application = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
_HEADER_BYTES: Final = 64 * 1024
_READ_BYTES: Final = 64 * 1024


def serve_asgi(application: Application) -> Callable[[Channel], Awaitable[None]]:
    """Return a handler for `listen` that answers the requests of each channel with an ASGI application.

    One request at a time on each channel, as HTTP/1.1 has it. There are no lifespan events: what the application needs
    is started and stopped around `listen`. `scope["client"]` has the far end's transport address, which proves nothing;
    `scope["extensions"]["mcbn"]["identity"]` names the key that the far end has proved to hold.
    """

    async def handle(channel: Channel) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEADER_BYTES)
        try:
            while await _Exchange(application, channel, connection).run():
                connection.start_next_cycle()
        except h11.RemoteProtocolError as error:
            # Not the error's text: it quotes what came through the channel, and others may read the log.
            status = error.error_status_hint
            _log.warning("%s did not speak HTTP: %d", channel.peer, status, extra={"event": "http_malformed"})
            await _answer_alone(channel, connection, status)
            if connection.our_state is h11.SEND_BODY:
                channel.abort(ChannelClosedError("the far end did not speak HTTP in the middle of an answer"))

    return handle


class _Exchange:
    """One request and its answer."""

    def __init__(self, application: Application, channel: Channel, connection: h11.Connection) -> None:
        self._application = application
        self._channel = channel
        self._connection = connection
        self._over = asyncio.Event()

    async def run(self) -> bool:
        """Answer one request; return whether the channel can carry another."""
        request = await self._event()
        if not isinstance(request, h11.Request):
            return False
        try:
            await self._application(self._scope(request), self._receive, self._send)
        except (WorkloadError, h11.RemoteProtocolError):
            raise  # not the application's fault
        except Exception:  # noqa: BLE001  # the application's own fault: logged, and the far end gets a 500 or an end
            _log.exception("the application failed", extra={"event": "application_failed"})
        if self._connection.our_state is h11.SEND_RESPONSE:
            await _answer_alone(self._channel, self._connection, 500)
        self._over.set()
        if self._connection.our_state is h11.SEND_BODY:
            self._channel.abort(ChannelClosedError("the application failed in the middle of an answer"))
        if self._connection.our_state is not h11.DONE:
            return False
        while self._connection.their_state is h11.SEND_BODY:
            await self._event()
        return self._connection.their_state is h11.DONE

    async def _event(self) -> Any:
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            if self._connection.they_are_waiting_for_100_continue:
                await self._transmit(h11.InformationalResponse(status_code=100, headers=[]))
            self._connection.receive_data(await self._channel.read(_READ_BYTES))
        return event

    async def _transmit(self, event: Any) -> None:
        data = self._connection.send(event)
        if data:
            await self._channel.write(data)

    def _scope(self, request: h11.Request) -> MutableMapping[str, Any]:
        path, _, query = request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii"),
            "scheme": "http",
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": [(bytes(name), bytes(value)) for name, value in request.headers],
            "client": (self._channel.peer, 0),
            "server": None,
            "extensions": {"mcbn": {"identity": self._channel.identity}},
        }

    async def _receive(self) -> Message:
        if self._connection.their_state is h11.SEND_BODY and not self._over.is_set():
            event = await self._event()
            if isinstance(event, h11.Data):
                return {"type": "http.request", "body": bytes(event.data), "more_body": True}
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._end()
        return {"type": "http.disconnect"}

    async def _end(self) -> None:
        """Wait until the answer is complete or the channel is gone."""
        waiting = [asyncio.ensure_future(one) for one in (self._over.wait(), self._channel.wire.gone())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", [])]
            await self._transmit(h11.Response(status_code=message["status"], headers=headers))
            return
        if body := message.get("body", b""):
            await self._transmit(h11.Data(data=body))
        if not message.get("more_body", False):
            await self._transmit(h11.EndOfMessage())
            self._over.set()


async def _answer_alone(channel: Channel, connection: h11.Connection, status: int) -> None:
    """Send an answer without a body, after which the channel ends."""
    if connection.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
        return
    headers = [("content-length", "0"), ("connection", "close")]
    data = connection.send(h11.Response(status_code=status, headers=headers)) or b""
    data += connection.send(h11.EndOfMessage()) or b""
    await channel.write(data)
