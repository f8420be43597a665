"""Strict JSON, ours and that of others' documents: two readers that must never disagree."""

import json
from contextlib import suppress

from mcbn_broker.attestation.strict_json import NotStrictJsonError, parse_object
from mcbn_protocol.encoding import canonical, parse_canonical, parse_json
from mcbn_protocol.errors import MalformedError
from tests.fuzz.material import texts, vectors

LIMIT = 4096
MAX_BYTES = LIMIT + 64
WORDS = tuple(b'{ } [ ] , : " true false null -0 1e9 0.5 NaN Infinity \\ud800 \\u0000 9007199254740992'.split())


def seeds() -> list[bytes]:
    raw = [bytes.fromhex(one["input"]["json"]) for one in vectors("encoding") if "json" in one["input"]]
    return [*raw, *texts("messages", "body", "output"), b"[" * 40 + b"]" * 40]


def target(data: bytes) -> None:
    with suppress(NotStrictJsonError):
        parse_object(data)
    with suppress(MalformedError):
        value = parse_json(data, limit=LIMIT)
        assert len(data) <= LIMIT
        assert value == json.loads(data)
        assert parse_canonical(canonical(value), limit=2 * LIMIT) == value
        if isinstance(value, dict):
            assert parse_object(data) == value
