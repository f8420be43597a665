"""One HTTP exchange with a broker: a deadline over everything, a bounded body, no redirects, no content coding."""

import asyncio
import re
from dataclasses import dataclass
from typing import Final

import httpx

from mcbn_workload.errors import printable

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
RETRY_AFTER_MAX: Final = 30.0  # seconds; a broker cannot make a workload wait for longer
_RETRY_DIGITS: Final = 9
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,98}/[a-z0-9][a-z0-9!#$&^_.+-]{0,98}")
_UNREADABLE: Final = "unreadable"


_NO_ANSWER: Final = (
    *(httpx.HTTPError, httpx.InvalidURL, httpx.StreamError),
    *(OSError, ValueError, OverflowError),  # addresses that a resolver or a socket does not take, Unicode's too
)


class NoAnswerError(Exception):
    """A broker gave no usable answer. `final` says that asking again in the same way is of no use."""

    def __init__(self, reason: str, *, final: bool, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.final = final
        self.retry_after = retry_after


@dataclass(frozen=True)
class Answer:
    """A complete answer. Nothing in it is verified.

    Attributes:
        status: HTTP status.
        media_type: Lower case, without parameters, of the form of RFC 6838 section 4.2; else `unreadable`, or empty
            where there is none.
        retry_after: Seconds, at most `RETRY_AFTER_MAX`; None where there is no such number.
        body: At most as long as the exchange's limit.
    """

    status: int
    media_type: str
    retry_after: float | None
    body: bytes

    def require(self, media_type: str) -> bytes:
        """Return the body if it has this media type.

        Raises:
            NoAnswerError: It has another.
        """
        if self.media_type != media_type:
            raise NoAnswerError(f"status {self.status} of type {self.media_type or 'none'}: not a broker's", final=True)
        return self.body


async def exchange(
    client: httpx.AsyncClient, method: str, path: str, body: bytes | None = None, *, limit: int, seconds: float
) -> Answer:
    """Send one request and read its answer.

    Args:
        client: A client of `addresses.Connector`.
        method: GET or POST.
        path: Below the broker's base URL, or a whole URL.
        body: JSON to send, or None.
        limit: The longest body to read, in bytes.
        seconds: For everything, from connecting to the last byte.

    Raises:
        NoAnswerError: No answer in time, too long, broken, or with a content coding.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _exchange(client, method, path, body, limit)
    except TimeoutError as error:
        raise NoAnswerError(f"no answer within {seconds:g} s", final=False) from error
    except _NO_ANSWER as error:
        raise NoAnswerError(f"{type(error).__name__}: {printable(str(error))}", final=False) from error


async def _exchange(client: httpx.AsyncClient, method: str, path: str, body: bytes | None, limit: int) -> Answer:
    headers = {} if body is None else {"Content-Type": JSON}
    async with client.stream(method, path, content=body, headers=headers) as response:
        if "content-encoding" in response.headers:
            raise NoAnswerError("the answer has a content coding that was not asked for", final=True)
        return Answer(
            status=response.status_code,
            media_type=_media_type(response.headers.get("content-type", "")),
            retry_after=_retry_after(response.headers.get("retry-after", "")),
            body=await _read(response, limit),
        )


async def _read(response: httpx.Response, limit: int) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > limit:
            raise NoAnswerError(f"the answer is longer than {limit} bytes", final=True)
    return bytes(data)


def _media_type(text: str) -> str:
    media_type = text.partition(";")[0].strip().lower()
    return media_type if not media_type or _MEDIA_TYPE.fullmatch(media_type) else _UNREADABLE


def _retry_after(text: str) -> float | None:
    """Read delay-seconds (RFC 9110 section 10.2.3); a date is ignored, since it would bring in a third clock."""
    if not (text.isascii() and text.isdigit()):
        return None
    return RETRY_AFTER_MAX if len(text) > _RETRY_DIGITS else min(float(text), RETRY_AFTER_MAX)
