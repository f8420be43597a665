"""Fetches one small JSON document: no redirects, no proxies, no compression, a bounded number of bytes."""

import re
from dataclasses import dataclass
from typing import Any, Final

import httpx

from mcbn_broker.attestation.errors import AttestationError
from mcbn_broker.attestation.strict_json import NotStrictJsonError, parse_object

DOCUMENT_BYTES: Final = 64 * 1024
_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age=([0-9]{1,9})(?:[,\s]|$)", re.IGNORECASE)


class DocumentError(AttestationError):
    """A document of an attestation service could not be had, or is not what it has to be. The text says why."""

    code = "document_unusable"


@dataclass(frozen=True)
class Document:
    """One fetched document.

    Attributes:
        members: The JSON object.
        maximum_age_seconds: `max-age` of its Cache-Control (RFC 9111 section 5.2.2.1), or None.
    """

    members: dict[str, Any]
    maximum_age_seconds: int | None


def new_client(transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """Return the HTTP client for `fetch`; the caller closes it.

    It takes nothing from the environment: a proxy or a CA file named there must not decide whose keys are trusted.
    """
    return httpx.AsyncClient(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(5.0),  # for each operation; the deadline of the whole fetch is the caller's
        limits=httpx.Limits(max_connections=4, max_keepalive_connections=0),  # minutes lie between two fetches
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    )


async def fetch(client: httpx.AsyncClient, url: str) -> Document:
    """Fetch and parse one document of at most `DOCUMENT_BYTES`. Deadlines are the caller's.

    Raises:
        DocumentError: No answer, another status than 200 (redirects too), compressed, too long, or not strict JSON.
    """
    try:
        async with client.stream("GET", url) as response:
            body = await _body(response, url)
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError, RuntimeError) as error:
        raise DocumentError(f"{url}: {type(error).__name__}: {error}") from error
    try:
        members = parse_object(body)
    except NotStrictJsonError as error:
        raise DocumentError(f"{url}: {error}") from error
    return Document(members, _maximum_age(response))


async def _body(response: httpx.Response, url: str) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise DocumentError(f"{url}: status {response.status_code}, where 200 is expected; redirects are not followed")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise DocumentError(f"{url}: compressed, which was not asked for")
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > DOCUMENT_BYTES:
            raise DocumentError(f"{url}: longer than {DOCUMENT_BYTES} bytes")
    return bytes(body)


def _maximum_age(response: httpx.Response) -> int | None:
    match = _MAX_AGE.search(response.headers.get("cache-control", ""))
    return int(match[1]) if match else None
