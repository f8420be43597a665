"""The yardstick: a FastAPI application that validates a release request with pydantic and gives it back."""

import asyncio
import json
import socket
import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict


class Evidence(BaseModel):
    """As in a release request."""

    kind: str
    token: str


class Message(BaseModel):
    """The members of a release request."""

    model_config = ConfigDict(extra="forbid")

    challenge: str
    role: str
    manifest_hash: str
    evidence: Evidence
    kem: str
    recipient_key: str
    audit_heads: list[dict[str, object]]


app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


@app.post("/v1/releases")
async def echo(message: Message) -> Message:
    """Give it back."""
    return message


def main() -> None:
    """Serve on a free port, with the settings of the broker's own listener, and say where."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    host, port = listener.getsockname()
    config = uvicorn.Config(
        app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        proxy_headers=False, limit_concurrency=2000, timeout_keep_alive=30, backlog=512,
    )  # fmt: skip
    sys.stdout.write(json.dumps({"event": "listening", "address": f"{host}:{port}"}) + "\n")
    sys.stdout.flush()
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
