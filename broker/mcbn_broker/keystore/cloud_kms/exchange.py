"""HTTP for google-auth and Cloud KMS: one hard deadline over everything, bounded answers, no redirects, no proxies."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
from google.auth.exceptions import TransportError
from google.auth.transport import Request

from mcbn_broker.keystore.cloud_kms.errors import CloudKmsUnavailableError

ANSWER_BYTES: Final = 256 * 1024
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = range(500, 600)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer in the form that google-auth reads. A header's name is found in any case."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class Exchange(Request):
    """Google-auth's transport over httpx.

    Once the deadline has passed each call ends with a `CloudKmsUnavailableError`, which google-auth's own retries do
    not catch. It takes nothing from the environment: a proxy or a CA file named there must not come between broker and
    KMS.

    Attributes:
        may_pass: Whether the last call failed in a way that may be over later: no answer, 429 or 5xx.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self.may_pass = False

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **kwargs: Any,  # noqa: ARG002  # the interface is google-auth's
    ) -> Answer:
        """Send one request and return its answer.

        Raises:
            TransportError: No answer, or one that is too long; google-auth may try again.
            CloudKmsUnavailableError: The deadline has passed.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise self._too_late(url)
        seconds = left if timeout is None else min(timeout, left)
        self.may_pass = True
        try:
            answer = asyncio.run(self._within(seconds, url, method, body, headers))
        except TimeoutError as error:
            if seconds == left:
                raise self._too_late(url) from error
            raise TransportError(f"{_place(url)} does not answer") from error  # type: ignore[no-untyped-call]  # has no types
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            # The others are about the URL or the answer, not about the way there.
            self.may_pass = isinstance(error, httpx.HTTPError | OSError)
            raise TransportError(f"{_place(url)}: {type(error).__name__}: {error}") from error  # type: ignore[no-untyped-call]  # has no types
        self.may_pass = answer.status == _TOO_MANY_REQUESTS or answer.status in _SERVER_ERRORS
        return answer

    def _too_late(self, url: str) -> CloudKmsUnavailableError:
        return CloudKmsUnavailableError(
            f"no answer from {_place(url)} within {self._seconds:.0f} seconds: check the network; start again later"
        )

    async def _within(
        self, seconds: float, url: str, method: str, body: bytes | None, headers: Mapping[str, str] | None
    ) -> Answer:
        async with (
            asyncio.timeout(seconds),
            self._client(seconds) as client,
            client.stream(method, url, content=body, headers=dict(headers or {})) as response,
        ):
            return Answer(response.status_code, response.headers, await _body(response))

    @staticmethod
    def _client(seconds: float) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            trust_env=False, follow_redirects=False, timeout=seconds, headers={"Accept-Encoding": "identity"}
        )


async def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():  # what nobody asked to be compressed is not unpacked
        body += chunk
        if len(body) > ANSWER_BYTES:
            raise ValueError(f"the answer is longer than {ANSWER_BYTES} bytes")
    return bytes(body)


def _place(url: str) -> str:
    """Return scheme and host: a path or query may hold what does not belong into a log."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "an unreadable URL"
    return f"{parsed.scheme}://{parsed.netloc.decode('ascii')}"
