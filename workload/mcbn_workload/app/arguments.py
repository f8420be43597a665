"""The command line's grammar."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mcbn_protocol import __version__
from mcbn_protocol.identifiers import Role
from mcbn_protocol.key_schedule import Scheme
from mcbn_protocol.rsa_schemes import RsaScheme
from mcbn_workload.app.logs import LogFormat
from mcbn_workload.derive import RSA_COMBINATION
from mcbn_workload.errors import EXIT_CODES
from mcbn_workload.settings import BROKER_PREFIX, DEFAULT_PATH, VARIABLES

_VARIABLES: Final = {**VARIABLES, f"{BROKER_PREFIX}<NAME>": "a participant's broker address, instead of the manifest's"}


def new_parser() -> argparse.ArgumentParser:
    """Return the parser of `mcbn-workload`."""
    parser = argparse.ArgumentParser(
        prog="mcbn-workload",
        description="Runs inside the TEE: gathers the participants' shares and opens channels under their common key.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mcbn-workload {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for service in (
        _add(commands, "server", "accept channels and forward each to the application"),
        _add(commands, "client", "listen for the application and forward each connection through a channel"),
    ):
        service.add_argument(
            "--output",
            type=LogFormat,
            choices=list(LogFormat),
            help="how the log on standard error is written; default: coloured text at a terminal, else JSON in lines",
        )
    probe = _add(commands, "probe", "gather from all brokers, check every share, keep none, and show a table")
    probe.add_argument(
        "--output", choices=("table", "json"), default="table", help="a table for people, or JSON; default: table"
    )
    _add_derive(commands)
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=text,
        description=text.capitalize() + ".",
        epilog="\n".join(_environment(_variables_of(name))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--config", type=Path, default=DEFAULT_PATH, metavar="PATH", help=f"default: {DEFAULT_PATH}")
    return command


def _add_derive(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "combine shares from files as older systems do, to compare keys with theirs"
    derive = commands.add_parser("derive", help=text, description=text.capitalize() + ".", allow_abbrev=False)
    derive.add_argument(
        "--scheme", type=Scheme, choices=list(Scheme), help=f"how to combine; with --rsa by default {RSA_COMBINATION}"
    )
    derive.add_argument(
        "--rsa",
        type=RsaScheme,
        choices=list(RsaScheme),
        help="show the RSA key that this scheme derives from the combined key, which is shown too, in base64url",
    )
    derive.add_argument("--bits", type=int, metavar="N", help="the RSA key's size; default: 3072, or 2048 for go-*")
    derive.add_argument(
        "--out", type=Path, metavar="FILE", help="write the RSA private key (PKCS #8, PEM) to a new file of mode 0600"
    )
    derive.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="64 lower-case hex digits; the order matters"
    )


def _epilog() -> str:
    return "\n".join(
        [
            *_environment(_VARIABLES),
            "",
            "exit codes:",
            *(f"  {code.value}  {text}" for code, text in EXIT_CODES.items()),
        ]
    )


def _environment(variables: Mapping[str, str]) -> list[str]:
    return ["environment:", *(f"  {name:20} {text}" for name, text in variables.items())]


def _variables_of(command: str) -> dict[str, str]:
    """Return what one command reads: the text of a variable of one role begins with the role's name."""
    others = tuple(f"{role.value}: " for role in Role if role.value != command)
    return {name: text.removeprefix(f"{command}: ") for name, text in _VARIABLES.items() if not text.startswith(others)}
