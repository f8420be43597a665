"""The launcher's HTTP interface inside a VM: paths, texts, status codes and content types of the public one."""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mcbn_simulator.errors import ServiceError, SimulatorError, TokenOptionsError
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.token_faults import NO_FAULT, TOKEN_FAULTS
from mcbn_simulator.token_options import TokenOptions

TOKEN_PATH: Final = "/v1/token"  # noqa: S105  a path, not a secret
ReadMachine = Callable[[], SimulatedMachine]
RequestToken = Callable[[SimulatedMachine, TokenOptions], Awaitable[str]]
_PURPOSES: Final = {"GET": "attestation service token", "POST": "custom attestation service token"}


def launcher_app(read_machine: ReadMachine, request_token: RequestToken) -> ASGIApp:
    """The ASGI application of one VM's launcher socket.

    Args:
        read_machine: The VM's description, asked for at every request, so that it may change while the VM runs.
        request_token: The attestation service: `Issuer.token`, or `ControlClient.token` in a process of its own.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if request.url.path != TOKEN_PATH:
            response = _not_found()
        else:
            response = await _answer(request, read_machine, request_token)
        await response(scope, receive, send)

    return app


async def _answer(request: Request, read_machine: ReadMachine, request_token: RequestToken) -> Response:
    try:
        options = await _options(request)
        return await _attest(request, read_machine(), options, request_token)
    except TokenOptionsError as error:
        return _html(str(error), 400)
    except ServiceError as error:
        return _failed(request, error, 400 if error.is_callers_fault else 500)
    except SimulatorError as error:
        return _failed(request, error, 500)


async def _options(request: Request) -> TokenOptions:
    if request.method == "GET":
        return TokenOptions()
    if request.method == "POST":
        return TokenOptions.parse(await request.body())
    raise TokenOptionsError(f"TEE server received an invalid HTTP method: {request.method}")


async def _attest(
    request: Request, machine: SimulatedMachine, options: TokenOptions, request_token: RequestToken
) -> Response:
    fault = NO_FAULT if machine.fault is None else TOKEN_FAULTS[machine.fault]
    if fault.reply == "error":
        raise ServiceError("Internal", "simulated fault")
    if fault.reply == "hang":
        await _client_gone(request)
        raise ServiceError("Canceled", "the client has gone")
    return _html(fault.token(await request_token(fault.machine(machine), fault.options(options))), 200)


async def _client_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _failed(request: Request, error: SimulatorError, status: int) -> Response:
    return _html(f"failed to retrieve {_PURPOSES[request.method]}: {error}", status)


def _html(text: str, status: int) -> Response:
    """Raw bytes under `text/html`, for errors and tokens alike, without a charset."""
    return Response(text, status_code=status, headers={"Content-Type": "text/html"})


def _not_found() -> Response:
    """As the multiplexer of Go's net/http answers for a path that nobody registered."""
    headers = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    return Response("404 page not found\n", status_code=404, headers=headers)
