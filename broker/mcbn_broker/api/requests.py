"""Reads a request's body: media type, 64 KiB, a deadline."""

import asyncio
from typing import Final

from starlette.requests import ClientDisconnect, Request

from mcbn_broker.api.problems import DoorRefused
from mcbn_protocol import limits
from mcbn_protocol.errors import MalformedError, TooLargeError
from mcbn_protocol.refusals import REFUSAL_CODES

MEDIA_TYPE: Final = "application/json"


async def read_body(request: Request, *, seconds: float) -> bytes:
    """Return the body of a JSON request.

    Args:
        request: The request; a compressed body is not JSON and is refused as such.
        seconds: The deadline for the whole body.

    Raises:
        DoorRefused: The media type is not `application/json`, or the body is compressed.
        TooLargeError: The body is, or says that it is, over 64 KiB. Nothing beyond that was kept.
        TimeoutError: The body did not arrive in time.
        MalformedError: The client went away.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != MEDIA_TYPE or "content-encoding" in request.headers:
        raise DoorRefused(REFUSAL_CODES["unsupported_media_type"], detail="media type or content encoding")
    declared = request.headers.get("content-length", "0")
    if not declared.isascii() or not declared.isdigit() or int(declared) > limits.REQUEST_BYTES:
        raise TooLargeError(f"a request has at most {limits.REQUEST_BYTES} bytes")
    async with asyncio.timeout(seconds):
        return await _collect(request)


async def _collect(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limits.REQUEST_BYTES:
                raise TooLargeError(f"a request has at most {limits.REQUEST_BYTES} bytes")
    except ClientDisconnect as error:
        raise MalformedError("the client went away before its request was complete") from error
    return bytes(body)
