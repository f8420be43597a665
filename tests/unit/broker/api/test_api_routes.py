"""Both ways to an answer, FastAPI's and the short one, are one door; and the OpenAPI document tells what is behind."""

import json
import uuid
from pathlib import Path

import pytest
from fastapi import FastAPI
from pydantic import ValidationError

from mcbn_broker.api import documents
from mcbn_broker.errors import Refused
from mcbn_protocol.refusals import REFUSAL_CODES
from tests.properties.asgi import Answer, ask

JSON = [(b"content-type", b"application/json")]
BODY = json.dumps({"role": "client", "manifest_hash": "0" * 64}).encode()


@pytest.fixture(params=["short", "FastAPI"])
def way(request, api):
    """The API, and the same without the short way."""
    return api if request.param == "short" else lambda *arguments: FastAPI.__call__(api, *arguments)


def code_of(answer: Answer) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = json.loads(answer.body)
    assert problem["status"] == answer.status
    assert problem["correlation_id"] == answer.headers["x-correlation-id"]
    return str(problem["code"])


async def test_a_good_request_is_answered(way, service):
    answer = await ask(way, "POST", "/v1/challenges", BODY, JSON)
    assert (answer.status, json.loads(answer.body)["expires_at"]) == (200, 100)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.body))
    uuid.UUID(answer.headers["x-correlation-id"])
    assert len(service.asked) == 1


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (b"{", JSON, "malformed"),
        (BODY, [], "unsupported_media_type"),
        (b" " * 65_537, JSON, "too_large"),
        (b"", [*JSON, (b"content-length", b"65537")], "too_large"),
    ],
)
async def test_what_is_beyond_the_limits_is_refused_and_counted(way, service, body, headers, code):
    for path in ("/v1/challenges", "/v1/releases"):
        answer = await ask(way, "POST", path, body, headers)
        assert code_of(answer) == code
        assert answer.headers.get("connection") == ("close" if code == "too_large" else None)
    assert (service.asked, service.rejected) == ([], [code, code])


async def test_a_refusal_and_a_fault_become_problems(way, service):
    service.answer = Refused(REFUSAL_CODES["overloaded"], detail="kept inside", retry_after=7)
    refused = await ask(way, "POST", "/v1/challenges", BODY, JSON)
    assert (code_of(refused), refused.headers["retry-after"]) == ("overloaded", "7")
    service.answer = ZeroDivisionError("kept inside")
    failed = await ask(way, "POST", "/v1/challenges", BODY, JSON)
    assert code_of(failed) == "internal"
    assert b"kept inside" not in refused.body + failed.body


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/releases", "method_not_allowed"),
        ("POST", "/v1/releases/", "not_found"),
        ("POST", "/V1/releases", "not_found"),
        ("POST", "/v1/manifest", "method_not_allowed"),
        ("GET", "/openapi.json", "not_found"),
    ],
)
async def test_only_the_very_method_and_path_lead_anywhere(api, service, method, path, code):
    assert code_of(await ask(api, method, path, BODY, JSON)) == code
    assert service.rejected == [code]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_other_routes_are_fastapis(api, method):
    answer = await ask(api, method, "/v1/manifest")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"{}", "application/json")
    uuid.UUID(answer.headers["x-correlation-id"])


# --- the OpenAPI document


def test_every_route_is_documented_with_what_it_takes_and_gives(api):
    document = api.openapi()
    assert {(path, method) for path, methods in document["paths"].items() for method in methods} == {
        ("/v1/challenges", "post"),
        ("/v1/releases", "post"),
        ("/v1/manifest", "get"),
        ("/v1/audit-head", "get"),
    }
    assert api.openapi() == document
    references = {part.split('"')[0] for part in json.dumps(document).split("#/components/schemas/")[1:]}
    assert references <= document["components"]["schemas"].keys()
    assert {"ReleaseRequest", "ChallengeRequest", "Challenge", "SignedDocument", "Problem"} <= references


DOCUMENTED: dict[str, type[documents.Document]] = {
    "challenge-request": documents.ChallengeRequest,
    "challenge": documents.Challenge,
    "release-request": documents.ReleaseRequest,
    "problem": documents.Problem,
}
VECTORS = [
    one
    for one in json.loads((Path(__file__).parents[3] / "vectors" / "messages.json").read_bytes())["vectors"]
    if one["input"]["kind"] in DOCUMENTED and "refused" not in one
]


def test_there_is_a_vector_for_each_documented_message():
    assert {one["input"]["kind"] for one in VECTORS} == DOCUMENTED.keys()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_documented_messages_are_those_of_the_protocol(vector):
    value, model = vector["input"]["value"], DOCUMENTED[vector["input"]["kind"]]
    assert model.model_validate_json(vector["output"]["body"])
    for name in value.keys() - {"refusal"}:
        with pytest.raises(ValidationError):
            model.model_validate({member: one for member, one in value.items() if member != name})
    with pytest.raises(ValidationError):
        model.model_validate(value | {"another": 1})
