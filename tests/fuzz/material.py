"""What targets build their seeds and their oracles of: vectors, JSON, an event loop."""

import asyncio
import functools
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from mcbn_protocol import limits
from mcbn_protocol.encoding import parse_json
from mcbn_protocol.errors import MalformedError

VECTORS = Path(__file__).parents[1] / "vectors"
NOW = 1_800_000_000

T = TypeVar("T")


@functools.cache
def vectors(name: str) -> list[dict[str, Any]]:
    """The vectors of one construction, refused ones included."""
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_bytes())["vectors"]
    return found


def texts(name: str, member: str, part: str = "input") -> list[bytes]:
    """One text member of all vectors of a construction that have it."""
    return [one[part][member].encode() for one in vectors(name) if member in one.get(part, {})]


def compact(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def json_object(data: bytes) -> dict[str, Any] | None:
    """The input as an object of strict JSON, or None."""
    try:
        value = parse_json(data, limit=limits.MANIFEST_BYTES)
    except MalformedError:
        return None
    return value if isinstance(value, dict) else None


@functools.cache
def _runner() -> asyncio.Runner:
    return asyncio.Runner()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the one event loop of this process."""
    return _runner().run(coroutine)
