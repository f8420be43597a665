"""The broker's HTTP application, in front of a real store: any method, path, media type and body."""

import tempfile
from pathlib import Path

import structlog

from mcbn_protocol.identifiers import Role
from mcbn_protocol.messages import ChallengeRequest
from tests.properties import property_lab
from tests.properties.answers import open_broker
from tests.properties.asgi import ask

# The runner removes its folder; libFuzzer ends without exit handlers, which the laboratory relies on.
property_lab._MEMORY = Path(tempfile.gettempdir())  # type: ignore[misc]  # Final for everybody else
LOGGED = property_lab.Logged()
structlog.configure(processors=[LOGGED])
OPENED = open_broker(LOGGED)
BROKER = OPENED.__enter__()
MANIFEST = property_lab.network().first.hash
PATHS = ("/v1/challenges", "/v1/releases", "/v1/manifest", "/v1/audit-head", "/v1/", "/")
WORDS = (
    *(path.encode() for path in PATHS),
    b"GET ",
    b"POST ",
    b"HEAD ",
    b"OPTIONS ",
    b"application/json",
    b"; charset=",
)


def seeds() -> list[bytes]:
    challenges = [ChallengeRequest(role, MANIFEST).to_bytes() for role in Role]
    releases = [BROKER.prepare(number).request.to_bytes() for number in (1, 2)]
    posts = [
        f"POST {path} application/json\n".encode() + body
        for path, bodies in zip(PATHS, (challenges, releases), strict=False)
        for body in bodies
    ]
    return [*posts, *(f"GET {path} \n".encode() for path in PATHS)]


def target(data: bytes) -> None:
    head, _, body = data.partition(b"\n")
    method, path, media_type = (*head.split(b" ", 2), b"", b"")[:3]
    answer = BROKER.run(
        ask(
            BROKER.alice.app,
            method.decode("latin-1"),
            path.decode("latin-1"),
            body,
            [(b"content-type", media_type), (b"content-length", str(len(body)).encode())],
        )
    )
    BROKER.check(answer)
