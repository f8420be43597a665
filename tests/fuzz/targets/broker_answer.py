"""A broker's answers as a workload takes them: every one ends in an outcome, and none but the right share opens."""

from typing import Any

import httpx

from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.errors import MalformedError
from mcbn_protocol.messages import ReleaseRequest
from mcbn_protocol.signatures import Envelope, Label, sign
from mcbn_workload.brokers.client import BrokerClient
from mcbn_workload.brokers.outcomes import Outcome, Released
from tests.fuzz.material import json_object, run
from tests.unit.workload.conftest import FakeNetwork

JSON = True
WORDS = tuple(
    b"challenge expires_at payload signatures binding BINDING sealed_share lease_seconds x25519 refusal check "
    b"consent_paused body status type retry application/json application/problem+json "
    b"urn:mcbn:refusal:consent_paused".split()
)
BOB = "bob"
NETWORK = FakeNetwork()
BROKER = NETWORK.brokers[BOB]


def seeds() -> list[bytes]:
    BROKER.challenges = 0
    said: list[bytes] = []

    def heard(envelope: Envelope) -> Envelope:
        said.append(envelope.payload_bytes)
        return envelope

    BROKER.change_envelope = heard
    assert isinstance(attempt(), Released)
    problem = BROKER.problem("consent_paused").content
    BROKER.change_envelope = lambda one: one
    return [
        b'{"path":"/v1/releases","sign":true,"status":200,"type":"application/json","body":%b}' % said[0],
        b'{"path":"/v1/releases","sign":false,"status":403,"type":"application/problem+json","retry":"5","body":%b}'
        % problem,
        b'{"path":"/v1/challenges","sign":false,"status":200,"type":"application/json","body":'
        b'{"challenge":"%b","expires_at":1800000100}}' % (b"A" * 55),
        b'{"path":"/v1/releases","sign":false,"status":202,"type":"text/plain","retry":"99999999999","body":{}}',
    ]


def target(data: bytes) -> None:
    told = json_object(data)
    if told is None:
        told = {"path": "/v1/releases", "status": 200, "type": "application/json"}
    BROKER.challenges = 0
    BROKER.reply = lambda request: answer(request, told, data)
    outcome = attempt()
    assert outcome.text(BOB)
    if isinstance(outcome, Released):
        assert outcome.share == NETWORK.share(BOB)
    NETWORK.connector.addresses.clear()
    BROKER.requests.clear()
    BROKER.releases.clear()


async def once() -> Outcome:
    address = NETWORK.agreed.manifest.brokers[BOB]
    async with NETWORK.connector.client(address, insecure_http=False) as http:
        return await BrokerClient(BOB, http, NETWORK.terms()).attempt()


def attempt() -> Outcome:
    return run(once())


def answer(request: httpx.Request, told: dict[str, Any], data: bytes) -> httpx.Response | None:
    """What the target's input says, on the path that it names; elsewhere the fake broker's own answer."""
    if request.url.path != told.get("path"):
        return None
    status, media_type, retry = told.get("status"), told.get("type", ""), told.get("retry", "")
    code = status if type(status) is int and 200 <= status < 600 else 200
    headers = [(b"content-type", _header(media_type)), (b"retry-after", _header(retry))]
    return httpx.Response(code, headers=headers, stream=httpx.ByteStream(_body(request, told, data)))


def _body(request: httpx.Request, told: dict[str, Any], data: bytes) -> bytes:
    body = told.get("body")
    if not isinstance(body, dict):
        return data
    if told.get("sign") is not True:
        return httpx.Request("POST", "http://x", json=body).content
    asked = ReleaseRequest.parse(request.content)
    if body.get("binding") == "BINDING":
        body = body | {"binding": b64u_encode(asked.binding(NETWORK.roster.hash, BOB))}
    try:
        return sign(NETWORK.release_keys[BOB], BOB, Label.RELEASE, NETWORK.roster.hash, body).to_bytes()
    except MalformedError:
        return data


def _header(value: object) -> bytes:
    return str(value).encode("utf-8", "replace").translate(None, b"\r\n\0")
