"""What every request of a workload passes: a correlation id, the limits, and the one place where errors end."""

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from mcbn_broker.api.http import Answer, DoorRefused, host_of, read_body
from mcbn_broker.api.places import Places, client_of
from mcbn_broker.api.problems import problem, reason_of
from mcbn_broker.api.rate import RateLimit
from mcbn_broker.errors import Refused
from mcbn_broker.settings import Settings
from mcbn_broker.telemetry.logs import logger
from mcbn_broker.telemetry.metrics import Metrics
from mcbn_protocol.refusals import REFUSAL_CODES, RefusalCode

CORRELATION_HEADER = "x-correlation-id"
_SERVER_FAULT = 500
_TOO_OFTEN = "rate_limited"
_QUIET_SECONDS = 60.0

Respond: TypeAlias = Callable[[bytes, str], Awaitable[Answer]]
"""Answers a body (empty for a GET) under a correlation id."""


class Door:
    """Lets requests through to what answers them.

    Args:
        count_in_audit: Counts a request that is refused before the release service knows of it.
        settings: Deadlines, rates and limits.
        metrics: Counted here.
    """

    def __init__(self, count_in_audit: Callable[[str], None], settings: Settings, metrics: Metrics) -> None:
        self._count_in_audit = count_in_audit
        self._rate = RateLimit(per_second=settings.rate_per_second, burst=settings.rate_burst, now=time.monotonic)
        self._metrics = metrics
        self._complained = -_QUIET_SECONDS
        self._body_seconds = settings.body_seconds
        self._bodies = Places(total=settings.connections, each=settings.bodies_per_client)
        self._work = Places(total=settings.in_flight, each=settings.in_flight)

    def leads_to(self, route: str, respond: Respond, *, body: bool = False) -> ASGIApp:
        """Return the ASGI application that lets a request, with its body if there is to be one, through to `respond`.

        Args:
            route: What log and metrics call it.
            respond: Whatever it raises becomes an answer.
            body: Whether it wants the request's body.
        """
        seconds = self._metrics.seconds.labels(route)

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            correlation_id = str(uuid.uuid4())
            structlog.contextvars.bind_contextvars(correlation_id=correlation_id)
            started = time.perf_counter()
            worth_a_line = True
            try:
                answer = await self._admit(scope, receive, respond, correlation_id, body=body)
            except Exception as error:  # noqa: BLE001  # the boundary: every error becomes an answer and a log line
                reason = reason_of(error)
                worth_a_line = self._is_worth_a_line(reason)
                if worth_a_line:
                    _log(error, reason)
                answer = self._refuse(error, reason, correlation_id)
            took = time.perf_counter() - started
            seconds.observe(took)
            if worth_a_line:
                logger().info("request", route=route, status=answer.status, seconds=round(took, 6))
            answer.headers[CORRELATION_HEADER] = correlation_id
            await answer.send(send)

        return application

    async def _admit(
        self, scope: Scope, receive: Receive, respond: Respond, correlation_id: str, *, body: bool
    ) -> Answer:
        client = client_of(host_of(scope))
        if not self._rate.admits(client):
            raise DoorRefused(REFUSAL_CODES["rate_limited"], detail="rate of one client", retry_after=1)
        data = await self._body(scope, receive, client) if body else b""
        with self._work.one(client) as room:  # only now: a body that never comes must not take anybody's place
            if not room:
                raise DoorRefused(REFUSAL_CODES["overloaded"], detail="too many requests in flight", retry_after=1)
            return await respond(data, correlation_id)

    async def _body(self, scope: Scope, receive: Receive, client: str) -> bytes:
        with self._bodies.one(client) as room:
            if not room:
                raise DoorRefused(REFUSAL_CODES["rate_limited"], detail="too many open bodies", retry_after=1)
            return await read_body(scope, receive, seconds=self._body_seconds)

    def _is_worth_a_line(self, reason: RefusalCode) -> bool:
        """Of the answers to those who ask too often one a minute is logged: a log is no place for strangers to fill."""
        if reason.code != _TOO_OFTEN:
            return True
        now = time.monotonic()
        if now - self._complained < _QUIET_SECONDS:
            return False
        self._complained = now
        return True

    def _refuse(self, error: Exception, reason: RefusalCode, correlation_id: str) -> Answer:
        self._metrics.refusals.labels(reason.code).inc()
        refused = error if isinstance(error, Refused) else None
        if refused is None or isinstance(error, DoorRefused):
            self._count_in_audit(reason.code)
        return problem(reason, correlation_id=correlation_id, refused=refused)


def _log(error: Exception, reason: RefusalCode) -> None:
    if isinstance(error, Refused):
        logger().warning("refused", code=reason.code, check=error.check, detail=error.detail)
    elif reason.status == _SERVER_FAULT:
        logger().error("failed", code=reason.code, exc_info=error)
    else:
        logger().warning("refused", code=reason.code, detail=str(error))
