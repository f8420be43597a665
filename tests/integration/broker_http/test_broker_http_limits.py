"""Slow, huge, deep, compressed and too many: what reaches a broker's listener before anything is decided."""

import asyncio
import json

import httpx
import pytest

CHALLENGE = json.dumps({"role": "client", "manifest_hash": "0" * 64}).encode()
RELEASE = b"POST /v1/releases HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
JSON = {"content-type": "application/json"}


async def post(running, body: bytes = CHALLENGE, headers: dict[str, str] = JSON) -> httpx.Response:
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
        return await client.post("/v1/challenges", content=body, headers=headers)


def assert_problem(answer: httpx.Response, code: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == code
    assert body["status"] == answer.status_code
    assert body["correlation_id"] == answer.headers["x-correlation-id"]


async def send_chunks(writer: asyncio.StreamWriter, *, total: int) -> int:
    """Send chunks until the other end hangs up; return how many bytes it let through."""
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    for sent in range(0, total, len(chunk)):
        writer.write(chunk)
        try:
            await writer.drain()
        except ConnectionError:
            return sent
    return total


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the other end hangs up, in peace or not."""
    received = b""
    try:
        while piece := await reader.read(65536):
            received += piece
    except ConnectionError:
        pass
    return received


async def until_gone(running) -> None:
    async with asyncio.timeout(20):
        while running.broker.places.taken:  # noqa: ASYNC110  # the count is no event, and a broker needs none
            await asyncio.sleep(0.01)


async def test_good_request_is_answered(start):
    async with start() as running:
        answer = await post(running)
        assert answer.status_code == 200
        assert answer.json() == {"challenge": "c" * 55, "expires_at": 100}
        assert len(running.service.asked) == 1


async def test_hundred_clients_with_slow_headers_do_not_keep_a_good_one_out(start):
    async with start(header_seconds=3) as running:
        slow = [await running.connect() for _ in range(100)]
        for _reader, writer in slow:
            writer.write(b"POST /v1/challenges HTTP/1.1\r\nhost: x\r\nx-slow: ")
            await writer.drain()
        assert (await post(running)).status_code == 200
        answers = await asyncio.gather(*(reader.read() for reader, _writer in slow))
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
        for _reader, writer in slow:
            writer.close()
        assert len(running.service.asked) == 1


async def test_silent_connection_is_ended(start):
    async with start(header_seconds=1) as running:
        reader, writer = await running.connect()
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_slow_headers_on_a_kept_connection_are_ended(start):
    async with start(header_seconds=1) as running:
        reader, writer = await running.connect()
        head = b"POST /v1/challenges HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        writer.write(head + b"content-length: %d\r\n\r\n" % len(CHALLENGE) + CHALLENGE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"POST /v1/chall")
        rest = await reader.read()
        assert b"HTTP/1.1 408 " in rest
        writer.close()


async def test_slow_body_is_refused_and_ended(start):
    async with start(body_seconds=1) as running:
        reader, writer = await running.connect()
        writer.write(
            b"POST /v1/challenges HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 90\r\n\r\n{"
        )
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer
        writer.close()
        assert running.service.asked == []


async def test_headers_without_end_are_refused(start):
    async with start() as running:
        reader, writer = await running.connect()
        writer.write(b"GET /v1/manifest HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 40_000)
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
        writer.close()


CHUNKED = (
    b"POST /v1/challenges HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize(
    "first", [CHUNKED, b"GET /v1/manifest HTTP/1.1\r\nhost: x\r\n\r\n"], ids=["open body", "whole"]
)
async def test_a_request_before_the_last_ones_answer_ends_the_connection(start, first):
    async with start() as running:
        running.service.open.clear()
        reader, writer = await running.connect()
        writer.write(first + b"2\r\n{}\r\n0\r\n\r\n" * (first == CHUNKED) + b"GET / HTTP/1.1\r\n\r\n" * 10_000)
        assert await read_all(reader) == b""
        await until_gone(running)
        assert len(running.service.asked) <= 1
        assert running.service.rejected in ([], ["malformed"])
        writer.transport.abort()  # what was not sent will never be


@pytest.mark.parametrize(
    "end",
    [b"0\r\n" + b"a: b\r\n" * 10_000, b"0\r\na: " + b"b" * 40_000, b"1;" + b"e" * 40_000, b"0" * 40_000],
    ids=["trailers", "an endless trailer", "an endless chunk extension", "an endless chunk size"],
)
async def test_what_is_no_body_is_not_kept_with_it(start, end):
    async with start() as running:
        reader, writer = await running.connect()
        writer.write(CHUNKED + b"%x\r\n%b\r\n" % (len(CHALLENGE), CHALLENGE) + end)
        assert b" 200 " not in await read_all(reader)
        assert running.service.asked == []
        writer.transport.abort()  # what was not sent will never be


async def test_a_body_in_pieces_of_one_byte_is_read(start):
    async with start() as running:
        reader, writer = await running.connect()
        for _ in range(2):
            writer.write(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in CHALLENGE) + b"0\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            await reader.readuntil(b"}")
        writer.close()


async def test_body_that_says_it_is_200_mb_is_refused_unread(start):
    async with start() as running:
        reader, writer = await running.connect()
        writer.write(RELEASE + b"content-length: 209715200\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 413 ")
        writer.close()
        assert running.service.asked == []
        assert running.service.rejected == ["too_large"]


async def test_200_mb_in_chunks_are_cut_off(start):
    async with start() as running:
        _reader, writer = await running.connect()
        writer.write(RELEASE + b"transfer-encoding: chunked\r\n\r\n")
        sent = await send_chunks(writer, total=200 * 2**20)
        assert sent < 32 * 2**20
        assert running.service.asked == []
        writer.close()


@pytest.mark.parametrize("length", ["-1", "x", "1e3"])
async def test_content_length_that_is_no_number_is_refused(start, length):
    async with start() as running:
        reader, writer = await running.connect()
        writer.write(f"POST /v1/challenges HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 4")
        writer.close()
        assert running.service.asked == []


async def test_json_nested_100_000_deep_is_malformed(start):
    async with start() as running:
        for body in (b"[" * 60_000, b'{"a":' * 12_000):
            assert_problem(await post(running, body), "malformed")
        assert_problem(await post(running, b"[" * 100_000), "too_large")
        assert (await post(running)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_other_media_types_and_compression_are_refused(start, headers):
    async with start() as running:
        assert_problem(await post(running, CHALLENGE, headers), "unsupported_media_type")
        assert running.service.asked == []


async def test_overload_is_answered_503_while_health_stays_up(start):
    async with start(in_flight=3) as running:
        running.service.open.clear()
        async with asyncio.TaskGroup() as tasks:
            held = [tasks.create_task(post(running)) for _ in range(3)]
            for _ in held:
                await running.service.entered.acquire()
            refused = await post(running)
            assert_problem(refused, "overloaded")
            assert refused.headers["retry-after"] == "1"
            async with httpx.AsyncClient(trust_env=False) as client:
                assert (await client.get(f"{running.health_url}/livez")).status_code == 200
            running.service.open.set()
        assert [task.result().status_code for task in held] == [200, 200, 200]


async def test_an_address_that_asks_too_often_is_told_to_wait(start, capsys):
    async with start(rate_per_second=0.001, rate_burst=2) as running:
        capsys.readouterr()
        codes = [(await post(running)).status_code for _ in range(5)]
        assert codes == [200, 200, 429, 429, 429]
        assert running.service.rejected == ["rate_limited"] * 3
    logged = capsys.readouterr().out
    assert logged.count("rate_limited") == 1, "one line a minute, whoever asks"
    assert running.metrics.refusals.labels("rate_limited")._value.get() == 3


async def test_stopping_finishes_twenty_requests_in_flight(start):
    async with start() as running:
        running.service.open.clear()
        async with asyncio.TaskGroup() as tasks:
            held = [tasks.create_task(post(running)) for _ in range(20)]
            for _ in held:
                await running.service.entered.acquire()
            stopping = tasks.create_task(running.broker.stop())
            running.service.open.set()
            await stopping
        assert {task.result().status_code for task in held} == {200}
        with pytest.raises(ConnectionRefusedError):
            await running.connect()
