"""The four routes of the release protocol, version 1."""

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

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

Answer = Callable[[Request, str], Awaitable[Response]]


def create_api(service: ReleaseService, settings: Settings, metrics: Metrics) -> FastAPI:
    """Return the application that workloads reach.

    Args:
        service: Decides and releases.
        settings: Deadlines, rates and limits.
        metrics: Counted by the routes.
    """
    api = FastAPI(title="MCBN broker", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    door = _Door(service, settings, metrics)
    routes = _Routes(service, settings, metrics)
    # Plain routes: the endpoints read and write bytes; resolving their dependencies would cost as much as a token.
    api.add_route("/v1/challenges", door.route("challenges", routes.challenge), methods=["POST"])
    api.add_route("/v1/releases", door.route("releases", routes.release), methods=["POST"])
    api.add_route("/v1/manifest", door.route("manifest", routes.manifest), methods=["GET"])
    api.add_route("/v1/audit-head", door.route("audit-head", routes.audit_head), methods=["GET"])

    @api.exception_handler(HTTPException)
    async def no_route(request: Request, error: HTTPException) -> Response:
        return await door.route(_OTHER_ROUTES, _refusal(error.status_code))(request)

    return api


def _refusal(status: int) -> Answer:
    async def answer(_request: Request, _correlation_id: str) -> Response:
        raise DoorRefused(REFUSAL_CODES[_STATUS_CODES.get(status, "malformed")], detail=f"HTTP {status}")

    return answer


class _Routes:
    """The answers themselves: parse, ask the service, encode."""

    def __init__(self, service: ReleaseService, settings: Settings, metrics: Metrics) -> None:
        self._service = service
        self._body_seconds = settings.body_seconds
        self._metrics = metrics

    async def challenge(self, request: Request, _correlation_id: str) -> Response:
        body = await read_body(request, seconds=self._body_seconds)
        challenge = await self._service.challenge(ChallengeRequest.parse(body))
        self._metrics.challenges.inc()
        return Response(challenge.to_bytes(), media_type=MEDIA_TYPE)

    async def release(self, request: Request, correlation_id: str) -> Response:
        message = ReleaseRequest.parse(await read_body(request, seconds=self._body_seconds))
        release = await self._service.release(message, correlation_id=correlation_id)
        self._metrics.releases.labels(message.role.value).inc()
        return Response(release.to_bytes(), media_type=MEDIA_TYPE)

    async def manifest(self, _request: Request, _correlation_id: str) -> Response:
        return Response(await self._service.manifest_bundle(), media_type=MEDIA_TYPE)

    async def audit_head(self, _request: Request, _correlation_id: str) -> Response:
        return Response((await self._service.audit_head()).to_bytes(), media_type=MEDIA_TYPE)


class _Door:
    """What every request passes: a correlation id, the limits, and the one place where errors become answers."""

    def __init__(self, service: ReleaseService, settings: Settings, metrics: Metrics) -> None:
        self._count_in_audit = service.reject
        self._rate = RateLimit(per_second=settings.rate_per_second, burst=settings.rate_burst, now=time.monotonic)
        self._metrics = metrics
        self._most = settings.in_flight
        self._in_flight = 0

    def route(self, name: str, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        """Return the endpoint that lets a request through this door to `answer`."""

        async def endpoint(request: Request) -> Response:
            return await self._pass_through(request, name, answer)

        return endpoint

    async def _pass_through(self, request: Request, route: str, answer: Answer) -> Response:
        correlation_id = str(uuid.uuid4())
        structlog.contextvars.bind_contextvars(correlation_id=correlation_id)
        started = time.perf_counter()
        self._in_flight += 1
        try:
            self._admit(request)
            response = await answer(request, correlation_id)
        except Exception as error:  # noqa: BLE001  # the boundary: every error becomes an answer and a log line
            response = self._refuse(error, correlation_id)
        finally:
            self._in_flight -= 1
        seconds = time.perf_counter() - started
        self._metrics.seconds.labels(route).observe(seconds)
        logger().info("request", route=route, status=response.status_code, seconds=round(seconds, 6))
        response.headers[CORRELATION_HEADER] = correlation_id
        return response

    def _admit(self, request: Request) -> None:
        if self._in_flight > self._most:
            raise DoorRefused(REFUSAL_CODES["overloaded"], detail="too many requests in flight", retry_after=1)
        address = "" if request.client is None else request.client.host
        if not self._rate.admits(address):
            raise DoorRefused(REFUSAL_CODES["rate_limited"], detail="rate of one address", retry_after=1)

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
