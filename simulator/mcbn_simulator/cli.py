"""The command line `mcbn-simulator`."""

import asyncio
import functools
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from mcbn_simulator import __version__
from mcbn_simulator.compose.command import compose
from mcbn_simulator.control import ControlClient
from mcbn_simulator.demo.command import demo
from mcbn_simulator.errors import ListenError
from mcbn_simulator.examples import examples
from mcbn_simulator.issuer import Issuer
from mcbn_simulator.machine import SimulatedMachine
from mcbn_simulator.serving import serve_control, serve_issuer, serve_launcher
from mcbn_simulator.token_file import TOKEN_FILE_NAME
from mcbn_simulator.token_options import TokenOptions

app = typer.Typer(
    help="A simulated Confidential Space for laptops and tests. It protects nothing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(demo)
app.command()(compose)

_A_MACHINE: Final = """echo '{"image_digest": "sha256:'$(printf %064d 0)'"}' >machine.json"""

Control = Annotated[Path, typer.Option(help="The issuer's private control socket.")]
Machine = Annotated[Path, typer.Option(help="JSON description of the VM, read anew at each request.")]
ReadyFd = Annotated[int | None, typer.Option(help="Open descriptor that gets one JSON line once it listens.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mcbn-simulator {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def _runs_in_loop(command: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(command(*args, **kwargs))

    return run


@app.command(epilog=examples("mcbn-simulator issuer --control control.sock --listen 127.0.0.1:8400"))
@_runs_in_loop
async def issuer(
    *,
    control: Control,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Port 0 takes a free one.")] = "127.0.0.1:0",
    name: Annotated[
        str | None, typer.Option("--issuer", metavar="URL", help="The tokens' iss, where it is not the URL.")
    ] = None,
    ready_fd: ReadyFd = None,
) -> None:
    """Serve an attestation service.

    Discovery and keys are on HTTP; launchers get tokens signed over the control socket. Ready line: {"url": ...}.
    """
    host, port = _address(listen)
    service = Issuer(name)
    async with serve_issuer(service, host=host, port=port) as url, serve_control(service, control):
        await _until_stopped({"url": url}, ready_fd)


@app.command(
    epilog=examples(
        _A_MACHINE,
        "mcbn-simulator launcher --control control.sock --machine machine.json --socket teeserver.sock",
    )
)
@_runs_in_loop
async def launcher(
    *,
    socket: Annotated[Path, typer.Option(help="The unix socket that the workload asks for tokens.")],
    control: Control,
    machine: Machine,
    token_file: Annotated[Path | None, typer.Option(help="The default token; by default beside the socket.")] = None,
    ready_fd: ReadyFd = None,
) -> None:
    """Serve one VM's launcher socket and its default token file. Ready line: {"socket": ..., "token_file": ...}."""
    read_machine = functools.partial(SimulatedMachine.load, machine)
    token_path = token_file or socket.parent / TOKEN_FILE_NAME
    async with (
        ControlClient(control) as service,
        serve_launcher(socket, read_machine, service.token, token_file=token_path),
    ):
        await _until_stopped({"socket": str(socket), "token_file": str(token_path)}, ready_fd)


@app.command(
    epilog=examples(
        _A_MACHINE,
        "mcbn-simulator token --control control.sock --machine machine.json --audience https://a.example",
    )
)
@_runs_in_loop
async def token(
    *,
    control: Control,
    machine: Machine,
    audience: Annotated[str, typer.Option(metavar="AUDIENCE", help="The token's aud.")],
    nonce: Annotated[
        list[str] | None, typer.Option(metavar="NONCE", help="A nonce, 10 to 74 bytes; repeat for more.")
    ] = None,
    token_type: Annotated[str, typer.Option(metavar="TYPE", help="OIDC or PKI.")] = "OIDC",  # noqa: S107  a kind of token, not a secret
) -> None:
    """Print one token for a VM."""
    options = TokenOptions(audience=audience, nonces=tuple(nonce or ()), token_type=token_type)
    async with ControlClient(control) as service:
        typer.echo(await service.token(SimulatedMachine.load(machine), options))


def _address(listen: str) -> tuple[str, int]:
    host, separator, port = listen.rpartition(":")
    if not separator or not port.isdecimal():
        raise ListenError(f"--listen is HOST:PORT, such as 127.0.0.1:0, not {listen!r}.")
    return host.strip("[]"), int(port)


async def _until_stopped(ready: dict[str, str], ready_fd: int | None) -> None:
    """Announce readiness, then wait for SIGTERM or SIGINT: both are the normal end."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    _announce(ready, ready_fd)
    await stopped.wait()


def _announce(ready: dict[str, str], ready_fd: int | None) -> None:
    print("SIMULATED CONFIDENTIAL SPACE, PROTECTS NOTHING:", json.dumps(ready), file=sys.stderr, flush=True)  # noqa: T201
    if ready_fd is None:
        return
    try:
        with os.fdopen(ready_fd, "w", encoding="utf-8") as pipe:
            pipe.write(json.dumps(ready) + "\n")
    except OSError as error:
        raise ListenError(f"--ready-fd {ready_fd} is not an open descriptor: {error}") from error
