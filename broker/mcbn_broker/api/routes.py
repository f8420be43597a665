"""The four routes of the release protocol, version 1."""

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mcbn_broker.api.places import Places, client_of
from mcbn_broker.api.problems import DoorRefused, problem, reason_of
from mcbn_broker.api.rate import RateLimit
from mcbn_broker.api.requests import MEDIA_TYPE, read_body
from mcbn_broker.errors import Refused
from mcbn_broker.release.service import ReleaseService
from mcbn_broker.settings import Settings
from mcbn_broker.telemetry.logs import logger
from mcbn_broker.telemetry.metrics import Metrics
from mcbn_protocol import __version__
from mcbn_protocol.messages import ChallengeRequest, ReleaseRequest
from mcbn_protocol.refusals import REFUSAL_CODES, RefusalCode

CORRELATION_HEADER: Final = "x-correlation-id"
_STATUS_CODES: Final = {404: "not_found", 405: "method_not_allowed"}
_SERVER_FAULT: Final = 500
_OTHER_ROUTES: Final = "other"

Answer = Callable[[bytes, str], Awaitable[Response]]
"""Answers a body (empty for a GET) under a correlation id."""


def create_api(service: ReleaseService, settings: Settings, metrics: Metrics) -> FastAPI:
    """Return the application that workloads reach.

    Args:
        service: Decides and releases.
        settings: Deadlines, rates and limits.
        metrics: Counted by the routes.
    """
    # A redirect to the address without its last slash would pass by the door, and name whatever host the client named.
    api = FastAPI(
        title="MCBN broker",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    door = _Door(service, settings, metrics)
    routes = _Routes(service, metrics)
    # Plain routes: the endpoints read and write bytes; resolving their dependencies would cost as much as a token.
    api.add_route("/v1/challenges", door.route("challenges", routes.challenge, body=True), methods=["POST"])
    api.add_route("/v1/releases", door.route("releases", routes.release, body=True), methods=["POST"])
    api.add_route("/v1/manifest", door.route("manifest", routes.manifest), methods=["GET"])
    api.add_route("/v1/audit-head", door.route("audit-head", routes.audit_head), methods=["GET"])

    @api.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        return await door.route(_OTHER_ROUTES, _refusal(error.status_code))(request)

    return api


def _refusal(status: int) -> Answer:
    async def answer(_body: bytes, _correlation_id: str) -> Response:
        raise DoorRefused(REFUSAL_CODES[_STATUS_CODES.get(status, "malformed")], detail=f"HTTP {status}")

    return answer


class _Routes:
    """The answers themselves: parse, ask the service, encode."""

    def __init__(self, service: ReleaseService, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics

    async def challenge(self, body: bytes, _correlation_id: str) -> Response:
        challenge = await self._service.challenge(ChallengeRequest.parse(body))
        self._metrics.challenges.inc()
        return Response(challenge.to_bytes(), media_type=MEDIA_TYPE)

    async def release(self, body: bytes, correlation_id: str) -> Response:
        message = ReleaseRequest.parse(body)
        release = await self._service.release(message, correlation_id=correlation_id)
        self._metrics.releases.labels(message.role.value).inc()
        return Response(release.to_bytes(), media_type=MEDIA_TYPE)

    async def manifest(self, _body: bytes, _correlation_id: str) -> Response:
        return Response(await self._service.manifest_bundle(), media_type=MEDIA_TYPE)

    async def audit_head(self, _body: bytes, _correlation_id: str) -> Response:
        return Response((await self._service.audit_head()).to_bytes(), media_type=MEDIA_TYPE)


class _Door:
    """What every request passes: a correlation id, the limits, and the one place where errors become answers."""

    def __init__(self, service: ReleaseService, settings: Settings, metrics: Metrics) -> None:
        self._count_in_audit = service.reject
        self._rate = RateLimit(per_second=settings.rate_per_second, burst=settings.rate_burst, now=time.monotonic)
        self._metrics = metrics
        self._body_seconds = settings.body_seconds
        self._bodies = Places(total=settings.connections, each=settings.bodies_per_client)
        self._work = Places(total=settings.in_flight, each=settings.in_flight)

    def route(self, name: str, answer: Answer, *, body: bool = False) -> Callable[[Request], Awaitable[Response]]:
        """Return the endpoint that lets a request, with its body if there is to be one, through to `answer`."""

        async def endpoint(request: Request) -> Response:
            return await self._pass_through(request, name, answer, body=body)

        return endpoint

    async def _pass_through(self, request: Request, route: str, answer: Answer, *, body: bool) -> Response:
        correlation_id = str(uuid.uuid4())
        structlog.contextvars.bind_contextvars(correlation_id=correlation_id)
        started = time.perf_counter()
        try:
            response = await self._answer(request, answer, correlation_id, body=body)
        except Exception as error:  # noqa: BLE001  # the boundary: every error becomes an answer and a log line
            response = self._refuse(error, correlation_id)
        seconds = time.perf_counter() - started
        self._metrics.seconds.labels(route).observe(seconds)
        logger().info("request", route=route, status=response.status_code, seconds=round(seconds, 6))
        response.headers[CORRELATION_HEADER] = correlation_id
        return response

    async def _answer(self, request: Request, answer: Answer, correlation_id: str, *, body: bool) -> Response:
        client = "" if request.client is None else client_of(request.client.host)
        if not self._rate.admits(client):
            raise DoorRefused(REFUSAL_CODES["rate_limited"], detail="rate of one client", retry_after=1)
        data = await self._body(request, client) if body else b""
        with self._work.one(client) as room:  # only now: a body that never comes must not take anybody's place
            if not room:
                raise DoorRefused(REFUSAL_CODES["overloaded"], detail="too many requests in flight", retry_after=1)
            return await answer(data, correlation_id)

    async def _body(self, request: Request, client: str) -> bytes:
        with self._bodies.one(client) as room:
            if not room:
                raise DoorRefused(REFUSAL_CODES["rate_limited"], detail="too many open bodies", retry_after=1)
            return await read_body(request, seconds=self._body_seconds)

    def _refuse(self, error: Exception, correlation_id: str) -> Response:
        reason = reason_of(error)
        self._metrics.refusals.labels(reason.code).inc()
        self._log(error, reason)
        refused = error if isinstance(error, Refused) else None
        if refused is None or isinstance(error, DoorRefused):
            self._count_in_audit(reason.code)
        return problem(reason, correlation_id=correlation_id, refused=refused)

    @staticmethod
    def _log(error: Exception, reason: RefusalCode) -> None:
        if isinstance(error, Refused):
            logger().warning("refused", code=reason.code, check=error.check, detail=error.detail)
        elif reason.status == _SERVER_FAULT:
            logger().error("failed", code=reason.code, exc_info=error)
        else:
            logger().warning("refused", code=reason.code, detail=str(error))
