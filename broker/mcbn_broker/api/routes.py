"""The four routes of the release protocol, version 1."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mcbn_broker.api import documents
from mcbn_broker.api.door import Door, Respond
from mcbn_broker.api.http import Answer, DoorRefused
from mcbn_broker.release.service import ReleaseService
from mcbn_broker.settings import Settings
from mcbn_broker.telemetry.metrics import Metrics
from mcbn_protocol import __version__
from mcbn_protocol.messages import ChallengeRequest, ReleaseRequest
from mcbn_protocol.refusals import REFUSAL_CODES

_STATUS_CODES: Final = {404: "not_found", 405: "method_not_allowed"}
_OTHER_ROUTES: Final = "other"


def create_api(service: ReleaseService, settings: Settings, metrics: Metrics) -> FastAPI:
    """Return the application that workloads reach.

    Args:
        service: Decides and releases.
        settings: Deadlines, rates and limits.
        metrics: Counted by the routes.
    """
    door, answers = Door(service.reject, settings, metrics), _Answers(service, metrics)
    challenges = door.leads_to("challenges", answers.challenge, body=True)
    releases = door.leads_to("releases", answers.release, body=True)
    api = _Api({("POST", "/v1/challenges"): challenges, ("POST", "/v1/releases"): releases})
    signed = documents.SignedDocument
    api.describe("POST", "/v1/challenges", challenges, answer=documents.Challenge, asks=documents.ChallengeRequest)
    api.describe("POST", "/v1/releases", releases, answer=signed, asks=documents.ReleaseRequest)
    api.describe("GET", "/v1/manifest", door.leads_to("manifest", answers.manifest), answer=signed)
    api.describe("GET", "/v1/audit-head", door.leads_to("audit-head", answers.audit_head), answer=signed)

    @api.exception_handler(HTTPException)
    async def no_route(_request: Request, error: HTTPException) -> Response:
        return _HandedOver(door.leads_to(_OTHER_ROUTES, _refusal(error.status_code)))

    return api


class _Api(FastAPI):
    """FastAPI, which routes and documents, with a short way for the two requests of a release.

    Its own way through middleware, router and dependencies would cost each of them as much as a token's verification.

    Args:
        short: The ASGI application of each method and path that goes the short way.
    """

    def __init__(self, short: Mapping[tuple[str, str], ASGIApp]) -> None:
        # A redirect to the address without its last slash would pass by the door, and name whatever host was named.
        super().__init__(
            title="MCBN broker",
            version=__version__,
            docs_url=None,
            redoc_url=None,
            openapi_url=None,  # docs/reference/openapi.json holds it; who can reach a broker needs no map of it
            redirect_slashes=False,
        )
        self._short = short

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        short = self._short.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        await (short or super().__call__)(scope, receive, send)

    def describe(
        self,
        method: str,
        path: str,
        application: ASGIApp,
        *,
        answer: type[documents.Document],
        asks: type[documents.Document] | None = None,
    ) -> None:
        """Add a route and say in the OpenAPI document what it takes and gives."""

        async def hand_over() -> Response:
            return _HandedOver(application)

        said, name = documents.operation(answer=answer, asks=asks), path.rpartition("/")[2]
        self.add_api_route(path, hand_over, methods=[method], name=name, response_class=Response, openapi_extra=said)
        if method == "GET":  # RFC 9110 section 9.3.2: the server leaves the body out
            self.add_api_route(path, hand_over, methods=["HEAD"], include_in_schema=False)

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        document = super().openapi()
        document["components"] = {"schemas": documents.schemas()}
        return document


class _HandedOver(Response):
    """An answer that an ASGI application gives."""

    def __init__(self, application: ASGIApp) -> None:
        super().__init__()
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)


def _refusal(status: int) -> Respond:
    async def respond(_body: bytes, _correlation_id: str) -> Answer:
        raise DoorRefused(REFUSAL_CODES[_STATUS_CODES.get(status, "malformed")], detail=f"HTTP {status}")

    return respond


class _Answers:
    """The answers themselves: parse, ask the service, encode."""

    def __init__(self, service: ReleaseService, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics

    async def challenge(self, body: bytes, _correlation_id: str) -> Answer:
        challenge = await self._service.challenge(ChallengeRequest.parse(body))
        self._metrics.challenges.inc()
        return Answer(challenge.to_bytes())

    async def release(self, body: bytes, correlation_id: str) -> Answer:
        message = ReleaseRequest.parse(body)
        release = await self._service.release(message, correlation_id=correlation_id)
        self._metrics.releases.labels(message.role.value).inc()
        return Answer(release.to_bytes())

    async def manifest(self, _body: bytes, _correlation_id: str) -> Answer:
        return Answer(await self._service.manifest_bundle())

    async def audit_head(self, _body: bytes, _correlation_id: str) -> Answer:
        return Answer((await self._service.audit_head()).to_bytes())
