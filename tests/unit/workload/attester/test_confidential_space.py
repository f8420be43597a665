"""The launcher as the workload sees it: over a real unix socket, and misbehaving."""

import asyncio
import json
import types
from typing import Any

import httpx
import pytest

from mcbn_workload.attester import AttesterError, TokenKind, token_kind
from mcbn_workload.attester.confidential_space import ConfidentialSpace

NONCES = ("challenge-1", "binding-22")


def launcher(tmp_path, reply, seconds=2):
    return ConfidentialSpace(tmp_path, deadline_seconds=seconds, transport=httpx.MockTransport(reply))


@pytest.mark.parametrize("kind", TokenKind)
async def test_a_token_over_the_real_socket(tmp_path, kind):
    seen = []

    async def answer(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        seen.append((head, json.loads(await reader.readexactly(length))))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\na.b.c")
        await writer.drain()
        writer.close()

    socket = tmp_path / "tee.sock"
    server = await asyncio.start_unix_server(answer, socket)
    async with server:
        token = await ConfidentialSpace(socket, deadline_seconds=5).token(kind, "mcbn:v1:x:bob", NONCES)
    assert token == "a.b.c"
    ((head, body),) = seen
    assert head.startswith(b"POST /v1/token HTTP/1.1\r\n")
    assert body == {"audience": "mcbn:v1:x:bob", "nonces": list(NONCES), "token_type": kind.value}


async def test_no_launcher_no_confidential_space(tmp_path):
    with pytest.raises(AttesterError, match="Confidential Space VM") as caught:
        await ConfidentialSpace(tmp_path / "none.sock", deadline_seconds=5).token(TokenKind.OIDC, "a", NONCES)
    assert not caught.value.transient
    assert caught.value.exit_code == 4


async def test_a_launcher_that_refuses_the_connection_may_come_back(tmp_path):
    def reply(_request):
        raise httpx.ConnectError("refused")

    with pytest.raises(AttesterError, match="does not answer") as caught:
        await launcher(tmp_path, reply).token(TokenKind.OIDC, "a", NONCES)
    assert caught.value.transient


@pytest.mark.parametrize("status", [400, 500])
async def test_an_error_is_shown_cut_short(tmp_path, status):
    text = b"failed to parse POST body as TokenOptions: \xff" + b"x" * 10_000
    stream = lambda _request: httpx.Response(status, stream=httpx.ByteStream(text))  # noqa: E731  # one line of a test
    with pytest.raises(AttesterError) as caught:
        await launcher(tmp_path, stream).token(TokenKind.OIDC, "a", NONCES)
    assert f"answers {status}: 'failed to parse" in str(caught.value)
    assert len(str(caught.value)) < 300
    assert caught.value.transient


@pytest.mark.parametrize("body", [b"", b"a.b", b"a.b.c\n", b"<html>", b"a.b.c.d.e", b"a.b.\xc3\xa9"])
async def test_what_is_not_a_token_is_refused_and_not_shown(tmp_path, body):
    reply = lambda _request: httpx.Response(200, stream=httpx.ByteStream(body))  # noqa: E731  # one line of a test
    with pytest.raises(AttesterError, match="is not a token") as caught:
        await launcher(tmp_path, reply).token(TokenKind.OIDC, "a", NONCES)
    assert "html" not in str(caught.value)


async def test_an_endless_answer_is_cut_off(tmp_path):
    async def endless():
        while True:
            yield bytes(4096)

    class Stream(httpx.AsyncByteStream):
        def __aiter__(self):
            return endless()

    source = launcher(tmp_path, lambda _request: httpx.Response(200, stream=Stream()))
    with pytest.raises(AttesterError, match="longer than"):
        await source.token(TokenKind.OIDC, "a", NONCES)


async def test_a_hanging_launcher_is_given_up(tmp_path):
    async def reply(_request):
        await asyncio.get_running_loop().create_future()

    with pytest.raises(AttesterError, match=r"no token within 0\.01 s") as caught:
        await launcher(tmp_path, reply, seconds=0.01).token(TokenKind.OIDC, "a", NONCES)
    assert caught.value.transient


def test_the_kind_is_pki_only_where_every_reference_value_names_a_root():
    published: Any = types.SimpleNamespace(root=None)
    pinned: Any = types.SimpleNamespace(root=bytes(32))
    assert token_kind([published]) is TokenKind.OIDC
    assert token_kind([pinned, pinned]) is TokenKind.PKI
    assert token_kind([pinned, published]) is TokenKind.OIDC
