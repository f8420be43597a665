"""The operator's page, on a listener of its own: alive, ready, metrics."""

import json
import math
from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from mcbn_broker.telemetry.metrics import Metrics


def create_health(
    readiness: Callable[[], Awaitable[Mapping[str, str | None]]],
    metrics: Metrics,
    *,
    key_set_age: Callable[[], float],
) -> FastAPI:
    """Return the health application.

    Args:
        readiness: The parts that must be ready, by name: None if it is, else what is missing and what to do.
        metrics: Rendered at /metrics.
        key_set_age: The age of the oldest key set in use in seconds, NaN without one.
    """
    health = FastAPI(title="MCBN broker health", docs_url=None, redoc_url=None, openapi_url=None)

    @health.get("/livez")
    async def alive() -> Response:
        return Response(b"ok\n", media_type="text/plain")

    @health.get("/readyz")
    async def ready() -> Response:
        parts = await readiness()
        age = key_set_age()
        body = {
            "ready": not any(parts.values()),
            "parts": parts,
            "key_set_age_seconds": None if math.isnan(age) else round(age),
        }
        status = 200 if body["ready"] else 503
        return Response(json.dumps(body).encode(), status_code=status, media_type="application/json")

    @health.get("/metrics")
    async def metrics_text() -> Response:
        return Response(metrics.render(), headers={"content-type": CONTENT_TYPE_LATEST})

    return health
