"""Bodies as they come from an ASGI server: in pieces, too long, never, or with headers that say something else."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from mcbn_broker.api.http import Answer, DoorRefused, read_body
from mcbn_protocol.errors import MalformedError, TooLargeError
from mcbn_protocol.limits import REQUEST_BYTES

JSON = (b"content-type", b"application/json")


async def read(*pieces: bytes | None, headers: Sequence[tuple[bytes, bytes]] = (JSON,)) -> bytes:
    """Read a body that comes in pieces; None stands for a client that goes away."""
    messages: list[dict[str, Any]] = [
        {"type": "http.disconnect"}
        if piece is None
        else {"type": "http.request", "body": piece, "more_body": number < len(pieces)}
        for number, piece in enumerate(pieces, start=1)
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return await read_body({"type": "http", "headers": list(headers)}, receive, seconds=60)


@pytest.mark.parametrize("pieces", [(b"{}",), (b"{", b"}"), (b"", b"{}", b"")])
async def test_a_body_is_put_together(pieces):
    assert await read(*pieces) == b"{}"


async def test_a_message_without_a_body_is_an_empty_body():
    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    assert await read_body({"type": "http", "headers": [JSON]}, receive, seconds=60) == b""


async def test_the_limit_is_a_limit_of_all_pieces_together():
    half = b" " * (REQUEST_BYTES // 2)
    assert len(await read(half, half)) == REQUEST_BYTES
    with pytest.raises(TooLargeError):
        await read(half, half, b" ")


@pytest.mark.parametrize("length", [b"65537", b"9" * 5000, b"-1", b"1e3", b"", b"\xc2\xb2"])
async def test_a_declared_length_is_refused_before_anything_is_read(length):
    with pytest.raises(TooLargeError):
        await read(headers=[JSON, (b"content-length", length)])


async def test_a_declared_length_within_the_limit_is_fine():
    assert await read(b"{}", headers=[JSON, (b"content-length", b"65536")]) == b"{}"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"text/plain")],
        [JSON, (b"content-type", b"text/plain")],
        [JSON, (b"content-encoding", b"identity")],
    ],
)
async def test_another_media_type_is_refused_before_anything_is_read(headers):
    with pytest.raises(DoorRefused) as refused:
        await read(headers=headers)
    assert refused.value.reason.code == "unsupported_media_type"


async def test_a_media_type_may_have_parameters_and_capitals():
    assert await read(b"{}", headers=[(b"content-type", b"Application/JSON; charset=utf-8")]) == b"{}"


async def test_a_client_that_goes_away_has_sent_nothing():
    with pytest.raises(MalformedError, match="went away"):
        await read(b"{", None)


async def test_a_body_that_does_not_end_has_a_deadline():
    never = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await never.wait()
        return {"type": "http.disconnect"}

    with pytest.raises(TimeoutError):
        await read_body({"type": "http", "headers": [JSON]}, receive, seconds=0)


async def test_an_answer_is_sent_whole():
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await Answer(b"abc", status=503, headers={"retry-after": "5"}).send(send)
    start, body = sent
    assert start["status"] == 503
    assert dict(start["headers"]) == {
        b"content-length": b"3",
        b"content-type": b"application/json",
        b"retry-after": b"5",
    }
    assert body == {"type": "http.response.body", "body": b"abc"}
