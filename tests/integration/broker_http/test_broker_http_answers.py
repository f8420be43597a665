"""The answers of a broker's HTTP layer: problems, correlation ids, health, metrics, logs."""

import json
import uuid

import httpx
import pytest

from mcbn_broker.errors import Refused, StorageError
from mcbn_protocol.messages import Problem
from mcbn_protocol.refusals import REFUSAL_CODES

BODY = json.dumps({"role": "client", "manifest_hash": "0" * 64}).encode()


async def ask(running, method: str = "POST", path: str = "/v1/challenges", body: bytes = BODY) -> httpx.Response:
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
        return await client.request(method, path, content=body, headers={"content-type": "application/json"})


@pytest.mark.parametrize("code", sorted(REFUSAL_CODES))
async def test_each_refusal_leaves_as_its_problem(start, code):
    async with start() as running:
        running.service.answer = Refused(REFUSAL_CODES[code], detail="kept inside", check="image_digest")
        answer = await ask(running)
        assert answer.status_code == REFUSAL_CODES[code].status
        problem = Problem.parse(answer.content)
        assert (problem.reason.code, problem.check) == (code, "image_digest")
        assert ("retry-after" in answer.headers) == (answer.status_code in {429, 503})
        assert b"kept inside" not in answer.content
        assert running.service.rejected == []


async def test_the_signed_part_is_passed_on(start, signed_document):
    async with start() as running:
        running.service.answer = Refused(REFUSAL_CODES["consent_paused"], detail="", refusal=signed_document)
        problem = Problem.parse((await ask(running)).content)
        assert problem.unverified_refusal == signed_document


@pytest.mark.parametrize(
    ("error", "code"), [(StorageError("no space"), "storage_unavailable"), (RuntimeError("secret inside"), "internal")]
)
async def test_errors_leave_without_their_text(start, error, code):
    async with start() as running:
        running.service.answer = error
        answer = await ask(running)
        assert Problem.parse(answer.content).reason.code == code
        assert str(error).encode() not in answer.content


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/nothing", "not_found"), ("GET", "/docs", "not_found"), ("PUT", "/v1/releases", "method_not_allowed")],
)
async def test_other_addresses_and_methods(start, method, path, code):
    async with start() as running:
        answer = await ask(running, method, path)
        assert Problem.parse(answer.content).reason.code == code
        assert running.service.rejected == [code]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"nonsense", BODY + BODY, BODY.replace(b"client", b"frank")])
async def test_malformed_requests_do_not_reach_the_service(start, body):
    async with start() as running:
        for path in ("/v1/challenges", "/v1/releases"):
            assert Problem.parse((await ask(running, path=path, body=body)).content).reason.code == "malformed"
        assert running.service.asked == []


async def test_a_caller_cannot_choose_the_correlation_id(start):
    async with start() as running, httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
        answer = await client.get("/v1/nothing", headers={"x-correlation-id": "chosen"})
        assert str(uuid.UUID(answer.headers["x-correlation-id"])) == answer.headers["x-correlation-id"]


async def test_the_operators_listener(start):
    async with start() as running, httpx.AsyncClient(base_url=running.health_url, trust_env=False) as client:
        assert (await client.get("/livez")).text == "ok\n"
        ready = await client.get("/readyz")
        expected = {"ready": True, "parts": {"store": None}, "key_set_age_seconds": 42}
        assert (ready.status_code, ready.json()) == (200, expected)
        await ask(running)
        await ask(running, "GET", "/nothing")
        text = (await client.get("/metrics")).text
        assert "mcbn_challenges_total 1.0" in text
        assert 'mcbn_refusals_total{code="not_found"} 1.0' in text
        assert (await client.get("/v1/manifest")).status_code == 404


async def test_the_workloads_listener_has_no_operators_pages(start):
    async with start() as running:
        for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
            assert (await ask(running, "GET", path)).status_code == 404
