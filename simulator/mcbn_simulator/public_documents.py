"""What everybody sees of the issuer: the discovery document, the key set, and the root certificate of PKI tokens."""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mcbn_simulator.document_faults import DOCUMENT_FAULTS, GENUINE_QUERY
from mcbn_simulator.issuer import DISCOVERY_PATH, JWKS_PATH, PKI_ROOT_PATH, ROOT_PATH, Issuer

CACHE_CONTROL: Final = "public, max-age=21600, must-revalidate, no-transform"  # as Google's key sets have it


def issuer_app(issuer: Issuer) -> Starlette:
    """The ASGI application at the issuer's URL."""
    return Starlette(
        routes=[
            Route(DISCOVERY_PATH, _endpoint(issuer, "discovery", issuer.discovery)),
            Route(JWKS_PATH, _endpoint(issuer, "jwks", issuer.jwks)),
            Route(PKI_ROOT_PATH, lambda _request: JSONResponse(issuer.pki_root())),
            Route(ROOT_PATH, lambda _request: _certificate(issuer)),
        ]
    )


def _certificate(issuer: Issuer) -> Response:
    pem = issuer.certificates.root.certificate.public_bytes(Encoding.PEM)
    return Response(pem, media_type="application/x-pem-file")


def _endpoint(
    issuer: Issuer, name: Literal["discovery", "jwks"], document: Callable[[], dict[str, Any]]
) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        fault: str | None = getattr(issuer.faults, name)
        if fault is not None and request.url.query != GENUINE_QUERY:
            return DOCUMENT_FAULTS[fault](document())
        return JSONResponse(document(), headers={"Cache-Control": CACHE_CONTROL})

    return serve
