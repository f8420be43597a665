"""How the issuer's public documents can misbehave: a table of named faults."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse

from mcbn_simulator.errors import FaultError

GENUINE_QUERY: Final = "genuine"
"""A document asked for with this query is served without its fault, so that following a redirect is visible."""

Document = Mapping[str, Any]
_HUGE_BYTES: Final = 1 << 20
_TRICKLE_SECONDS: Final = 0.1


def _slow(document: Document) -> Response:
    async def trickle() -> AsyncIterator[str]:
        for character in json.dumps(document):
            yield character
            await asyncio.sleep(_TRICKLE_SECONDS)

    return StreamingResponse(trickle(), media_type="application/json")


def _huge(document: Document) -> Response:
    """Valid JSON: only a size limit refuses it."""
    return Response(" " * _HUGE_BYTES + json.dumps(document), media_type="application/json")


def _empty(document: Document) -> Response:
    return JSONResponse({"keys": []} if "keys" in document else {})


DOCUMENT_FAULTS: Final[Mapping[str, Callable[[Document], Response]]] = {
    "down": lambda _: Response("The service is unavailable.", status_code=503, media_type="text/plain"),
    "slow": _slow,
    "html": lambda _: HTMLResponse("<!doctype html><title>Sign in</title>"),
    "redirect": lambda _: RedirectResponse(f"?{GENUINE_QUERY}", status_code=302),
    "huge": _huge,
    "empty": _empty,
    "garbage": lambda _: Response(b"\x00\xff{not json", media_type="application/json"),
}
"""Faults of the discovery document and of the key set: what is served instead of the genuine document.

`slow` sends one byte every 0.1 s, so that only a deadline for the whole answer ends it; `huge` is 1 MiB.
"""


@dataclasses.dataclass(kw_only=True)
class DocumentFaults:
    """Which fault each public document of the issuer has now: a name in `DOCUMENT_FAULTS`, or None.

    Raises:
        FaultError: Any other name.
    """

    discovery: str | None = None
    jwks: str | None = None

    def __setattr__(self, name: str, value: object) -> None:
        if value not in [None, *DOCUMENT_FAULTS]:
            raise FaultError(f"{value!r} is no fault of a document; known: {sorted(DOCUMENT_FAULTS)}.")
        super().__setattr__(name, value)
