"""HTTP as plain ASGI 3.0: reads a request's body within its limits, and sends an answer of bytes."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Receive, Scope, Send

from mcbn_broker.errors import Refused
from mcbn_protocol import limits
from mcbn_protocol.errors import MalformedError, TooLargeError
from mcbn_protocol.refusals import REFUSAL_CODES

JSON: Final = "application/json"
_OK: Final = 200
_LENGTH_DIGITS: Final = 19  # of a 64-bit number; int() refuses thousands of digits in its own way


class DoorRefused(Refused):
    """A refusal by the HTTP layer itself, before the release service saw the request."""


@dataclass
class Answer:
    """An answer, complete.

    Attributes:
        body: Its bytes.
        media_type: Their type.
        status: Of HTTP.
        headers: Further ones, with names in lower case.
    """

    body: bytes
    media_type: str = JSON
    status: int = _OK
    headers: dict[str, str] = field(default_factory=dict)

    async def send(self, send: Send) -> None:
        """Send it."""
        headers = {"content-length": str(len(self.body)), "content-type": self.media_type, **self.headers}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        await send({"type": "http.response.body", "body": self.body})


def host_of(scope: Scope) -> str:
    """Return the client's address, or nothing where the server does not know it."""
    client = scope.get("client")
    return "" if client is None else str(client[0])


async def read_body(scope: Scope, receive: Receive, *, seconds: float) -> bytes:
    """Return the body of a JSON request.

    Args:
        scope: The request; a compressed body is not JSON and is refused as such.
        receive: Where its body comes from.
        seconds: The deadline for the whole body.

    Raises:
        DoorRefused: The media type is not `application/json`, or the body is compressed.
        TooLargeError: The body is, or says that it is, over 64 KiB. Nothing beyond that was kept.
        TimeoutError: The body did not arrive in time.
        MalformedError: The client went away.
    """
    _check_headers(scope)
    async with asyncio.timeout(seconds):
        return await _collect(receive)


def _check_headers(scope: Scope) -> None:
    """Check what the headers say of the body. Of a header that is there twice, every one has to be good."""
    media_types = _values(scope, b"content-type")
    good = media_types and all(one.partition(b";")[0].strip().lower() == JSON.encode() for one in media_types)
    if not good or _values(scope, b"content-encoding"):
        raise DoorRefused(REFUSAL_CODES["unsupported_media_type"], detail="media type or content encoding")
    for declared in _values(scope, b"content-length"):
        if not declared.isdigit() or len(declared) > _LENGTH_DIGITS or int(declared) > limits.REQUEST_BYTES:
            raise _too_large()


def _values(scope: Scope, name: bytes) -> list[bytes]:
    return [value for one, value in scope["headers"] if one == name]  # ASGI: names are in lower case


async def _collect(receive: Receive) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedError("the client went away before its request was complete")
        body += message.get("body", b"")
        if len(body) > limits.REQUEST_BYTES:
            raise _too_large()
        more = message.get("more_body", False)
    return bytes(body)


def _too_large() -> TooLargeError:
    return TooLargeError(f"a request has at most {limits.REQUEST_BYTES} bytes")
