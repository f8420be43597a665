"""Whatever is sent to whatever address: a problem with a code of the table, or exactly what was asked for rightly."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcbn_protocol.identifiers import Role
from mcbn_protocol.limits import REQUEST_BYTES
from tests.properties.answers import open_broker
from tests.properties.asgi import ask
from tests.properties.budget import budget
from tests.properties.json_trees import same, strict
from tests.properties.property_lab import JSON, network
from tests.properties.strategies import CHALLENGES, RELEASES, RawRequest, requests


@pytest.fixture
def broker(logged):
    with open_broker(logged) as broker:
        yield broker


def read(request: RawRequest) -> Any:
    """What a request says in JSON, to somebody who reads it strictly; None if it says nothing."""
    media_type = request.headers[0][1].split(b";")[0].strip().lower()
    if media_type != JSON.encode() or request.header(b"content-encoding") or len(request.body) > REQUEST_BYTES:
        return None
    try:
        return strict(request.body)
    except (ValueError, RecursionError):
        return None


def may_be_released(request: RawRequest, genuine: dict[str, Any]) -> bool:
    """Whether a request still is the genuine one: same address and method, and JSON that says the same."""
    return (request.method, request.path) == ("POST", RELEASES) and same(read(request), genuine)


def may_be_challenged(request: RawRequest) -> bool:
    said = read(request)
    right = [{"role": role.value, "manifest_hash": network().first.hash.hex()} for role in Role]
    return (request.method, request.path) == ("POST", CHALLENGES) and any(same(said, one) for one in right)


def may_be_answered(request: RawRequest, genuine: dict[str, Any]) -> bool:
    public = request.method in {"GET", "HEAD"} and request.path in {"/v1/manifest", "/v1/audit-head"}
    return public or may_be_released(request, genuine) or may_be_challenged(request)


@pytest.mark.parametrize("kind", ["release", "challenge"])
def test_every_answer_is_a_problem_of_the_table_or_rightly_given(broker, record_property, kind):
    """Any method, address, header and body; a release request that got another answer than a release is unspent."""
    seen: Counter[int] = Counter()

    @budget(150)
    @given(data=st.data())
    def run(data: st.DataObject) -> None:
        asked = broker.prepare()
        genuine = strict(asked.request.to_bytes())
        about = genuine if kind == "release" else {"role": "client", "manifest_hash": network().first.hash.hex()}
        request = data.draw(requests(RELEASES if kind == "release" else CHALLENGES, about), label="request")
        before = broker.releases()
        answer = broker.run(ask(broker.alice.app, request.method, request.path, request.body, request.headers))
        broker.check(answer)
        seen[answer.status] += 1
        released = broker.releases() > before
        if answer.status == 200:
            assert may_be_answered(request, genuine)
        assert released == (answer.status == 200 and request.path == RELEASES)
        assert broker.post(asked.request).status == (409 if released else 200)

    run()
    record_property("figure", f"{kind} requests: {dict(sorted(seen.items()))}")
    assert seen.keys() >= {200, 400, 404, 405, 415}


@pytest.mark.parametrize("path", ["/v1/challenges/", "/v1/releases/", "/v1/manifest/", "//v1/challenges"])
def test_no_address_is_redirected(broker, path):
    """Another address than the right one is nowhere: a redirect would pass by the door and quote the Host header."""
    body = b"{}"
    answer = broker.run(ask(broker.alice.app, "POST", path, body, [(b"content-type", JSON.encode())]))
    problem = broker.check(answer)
    assert problem is not None
    assert problem.reason.code == "not_found"
    assert "location" not in answer.headers
