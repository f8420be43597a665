"""The issuer's private control interface: launchers get tokens through it, tests and the demo give orders.

It listens on a unix socket in a directory of mode 0700: whoever reaches it can have any claims signed.
"""

import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mcbn_simulator.errors import ControlError, ServiceError, SimulatorError
from mcbn_simulator.issuer import Issuer
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.token_options import TokenOptions

_TIMEOUT_SECONDS: Final = 10.0
Action = Callable[[Issuer, Mapping[str, Any]], dict[str, Any]]


def _sign(issuer: Issuer, body: Mapping[str, Any]) -> dict[str, Any]:
    members = _members(body, required={"claims"}, optional={"headers"})
    return {"token": issuer.sign(members["claims"], headers=members.get("headers"))}


def _token(issuer: Issuer, body: Mapping[str, Any]) -> dict[str, Any]:
    members = _members(body, required={"machine", "audience", "nonces", "token_type"})
    options = TokenOptions(
        audience=members["audience"], nonces=tuple(members["nonces"]), token_type=members["token_type"]
    )
    return {"token": issuer.issue(SimulatedMachine.from_json(members["machine"]), options)}


def _rotate(issuer: Issuer, body: Mapping[str, Any]) -> dict[str, Any]:
    _members(body)
    issuer.rotate()
    return {"kids": [key["kid"] for key in issuer.jwks()["keys"]]}


def _faults(issuer: Issuer, body: Mapping[str, Any]) -> dict[str, Any]:
    issuer.faults = dataclasses.replace(issuer.faults, **_members(body, optional={"discovery", "jwks"}))
    return dataclasses.asdict(issuer.faults)


_ACTIONS: Final[Mapping[str, Action]] = {
    "/sign": _sign,
    "/token": _token,
    "/control/rotate": _rotate,
    "/control/faults": _faults,
}


def _members(
    body: Mapping[str, Any], *, required: frozenset[str] | set[str] = frozenset(), optional: set[str] | None = None
) -> dict[str, Any]:
    missing, unknown = required - body.keys(), body.keys() - required - (optional or set())
    if missing or unknown:
        raise ServiceError("InvalidArgument", f"missing members {sorted(missing)}, unknown members {sorted(unknown)}")
    return dict(body)


def control_app(issuer: Issuer) -> Starlette:
    """The ASGI application of the control socket: `POST` a JSON object (or nothing), get a JSON object.

    `/sign` {claims, headers?} -> {token}; `/token` {machine, audience, nonces, token_type} -> {token};
    `/control/rotate` {} -> {kids}; `/control/faults` {discovery?, jwks?} -> the faults now in force.
    A refusal is 400 {code, description}.
    """
    return Starlette(routes=[Route(path, _endpoint(issuer, act), methods=["POST"]) for path, act in _ACTIONS.items()])


def _endpoint(issuer: Issuer, act: Action) -> Callable[[Request], Awaitable[JSONResponse]]:
    async def serve(request: Request) -> JSONResponse:
        try:
            return JSONResponse(act(issuer, _object(await request.body())))
        except ServiceError as error:
            return JSONResponse({"code": error.code, "description": error.description}, status_code=400)
        except SimulatorError as error:
            return JSONResponse({"code": "InvalidArgument", "description": str(error)}, status_code=400)

    return serve


def _object(body: bytes) -> dict[str, Any]:
    try:
        members = json.loads(body or b"{}")
    except ValueError as error:
        raise ServiceError("InvalidArgument", f"the body is not JSON: {error}") from error
    if not isinstance(members, dict):
        raise ServiceError("InvalidArgument", "the body is not a JSON object")
    return members


class ControlClient:
    """The other end of the control socket, in a launcher, a test or the demo. Use it with `async with`.

    Args:
        path: The issuer's control socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._http = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(path)), base_url="http://control", timeout=_TIMEOUT_SECONDS
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def token(self, machine: SimulatedMachine, options: TokenOptions) -> str:
        """A token for a machine, as the service issues it."""
        body = {"machine": machine.to_json(), **dataclasses.asdict(options)}
        return str((await self._post("/token", body))["token"])

    async def sign(self, claims: Mapping[str, Any], *, headers: Mapping[str, Any] | None = None) -> str:
        """A token over exactly these claims."""
        body = {"claims": claims} if headers is None else {"claims": claims, "headers": headers}
        return str((await self._post("/sign", body))["token"])

    async def rotate(self) -> list[str]:
        """Make a new signing key; returns the published key ids, the signing one last."""
        return list((await self._post("/control/rotate", {}))["kids"])

    async def set_faults(self, **faults: str | None) -> None:
        """Set or clear (None) the fault of `discovery`, of `jwks`, or of both."""
        await self._post("/control/faults", faults)

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One order.

        Raises:
            ServiceError: The issuer refuses.
            ControlError: It does not answer, or not in its own words.
        """
        try:
            response = await self._http.post(path, json=body)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ControlError(f"No issuer answers at {self._path}: start `mcbn-simulator issuer` first.") from error
        if response.status_code == httpx.codes.BAD_REQUEST:
            raise ServiceError(answer["code"], answer["description"])
        if response.status_code != httpx.codes.OK:
            raise ControlError(f"The issuer at {self._path} answers {response.status_code} to {path}; see its log.")
        return dict(answer)
