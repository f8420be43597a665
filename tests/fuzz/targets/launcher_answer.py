"""What answers on the launcher's socket: a token in form, or an error."""

import re
from contextlib import suppress
from pathlib import Path

import httpx

from mcbn_protocol.limits import TOKEN_CHARS
from mcbn_workload.attester import AttesterError, TokenKind
from mcbn_workload.attester.confidential_space import ConfidentialSpace
from tests.fuzz.material import run

STATUSES = (200, 200, 400, 500, 302, 204)
TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
MAX_BYTES = TOKEN_CHARS + 64


def seeds() -> list[bytes]:
    return [b"\0a.b.c", b"\2failed to parse", b"\3\xff\xfe", b"\0" + b"a" * 200 + b".b.c\n", b"\4x"]


def target(data: bytes) -> None:
    status, body = STATUSES[data[0] % len(STATUSES) if data else 0], data[1:]
    transport = httpx.MockTransport(lambda _request: httpx.Response(status, stream=httpx.ByteStream(body)))
    launcher = ConfidentialSpace(Path("/nonexistent"), deadline_seconds=5, transport=transport)
    with suppress(AttesterError):
        token = run(launcher.token(TokenKind.OIDC, "audience", ("challenge-1", "binding-22")))
        assert TOKEN.fullmatch(token)
        assert token.encode() == body
        assert len(token) <= TOKEN_CHARS
