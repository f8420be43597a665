"""The command line's grammar."""

import argparse
from pathlib import Path
from typing import Final, TypeAlias

from mcbn_images.definitions import DEVELOPMENT, IMAGES
from mcbn_images.errors import EXIT_CODES
from mcbn_images.finders import APT

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  # it has no public name

_DESCRIPTION: Final = (
    "Builds the images that participants trust. The same source, locks and roster give the same digests everywhere."
)

_OUTPUT: Final = "what standard output gets: a table for people, or JSON for programs; default: table"
_ONLY: Final = (
    f"one image instead of the three ({', '.join(IMAGES)}); {' and '.join(DEVELOPMENT)}, which protects nothing, "
    "is built only if it is named here"
)


def new_parser() -> argparse.ArgumentParser:
    """Return the parser of `mcbn-images`."""
    parser = argparse.ArgumentParser(
        prog="mcbn-images",
        description=_DESCRIPTION,
        epilog="\n".join(["exit codes:", *(f"  {code.value}  {text}" for code, text in EXIT_CODES.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="store_true", help="show the version of the source and exit")
    parser.add_argument("--source", type=Path, metavar="DIR", help="the source tree; default: the one of this program")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_build(commands)
    _add_verify(commands)
    _add_extend(commands)
    _add_lock(commands)
    _add_record(commands)
    _add_push(commands)
    return parser


def _add(commands: _Commands, name: str, text: str, *examples: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=text,
        description=text.capitalize() + ".",
        epilog="\n".join(["example:", *(f"  {line}" for line in examples)]) if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _add_build(commands: _Commands) -> None:
    build = _add(
        commands,
        "build",
        "build the images: layouts, loadable archives, digests, terms",
        "mcbn-images build --roster roster.json --out build/images",
    )
    _add_inputs(build)
    _add_output(build)


def _add_verify(commands: _Commands) -> None:
    verify = _add(
        commands,
        "verify",
        "rebuild and compare with a digest",
        "mcbn-images verify sha256:... --roster roster.json --against theirs.tar",
    )
    verify.add_argument("digest", metavar="DIGEST", help="sha256: and 64 hex digits")
    _add_inputs(verify)
    verify.add_argument("--against", type=Path, metavar="PATH", help="its layout or archive, to say what differs")
    verify.add_argument("--output", choices=("table", "json"), default="table", help=_OUTPUT)


def _add_lock(commands: _Commands) -> None:
    lock = _add(commands, "lock", "pin what apt and pip give now; review the difference and commit it")
    lock.add_argument("--spec", type=Path, metavar="FILE", help="an extension's locks instead of the images' own")


def _add_extend(commands: _Commands) -> None:
    extend = _add(
        commands,
        "extend",
        "add an application to an image as one more layer",
        "mcbn-images extend build/images/server --spec application.toml --out build/application",
    )
    extend.add_argument("base", type=Path, metavar="LAYOUT", help="the base image: a layout or an archive of one")
    extend.add_argument("--spec", type=Path, required=True, metavar="FILE", help="what is added, in TOML")
    _add_output(extend)
    _add_sources(extend)


def _add_record(commands: _Commands) -> None:
    record = _add(commands, "record", "note the digests for the example roster, and what is in the images")
    record.add_argument("--check", action="store_true", help="write nothing; fail if what is noted has changed")
    _add_sources(record)


def _add_push(commands: _Commands) -> None:
    push = _add(commands, "push", "publish an image; fail if the registry changes its digest")
    push.add_argument("layout", type=Path, metavar="LAYOUT", help="the image: build/images/NAME")
    push.add_argument("target", metavar="REGISTRY/REPOSITORY[:TAG]", help="where to; deploy by the digest, not the tag")
    push.add_argument("--username", metavar="NAME", help="for a registry that is not Google's")
    push.add_argument("--password-file", type=Path, metavar="FILE", help="its first line is the password or token")
    push.add_argument("--insecure-http", action="store_true", help="plain HTTP to a registry on another machine")
    push.add_argument("--output", choices=("table", "json"), default="table", help=_OUTPUT)


def _add_inputs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--roster", type=Path, required=True, metavar="FILE", help="as `mcbn-broker roster build` wrote it"
    )
    command.add_argument("--only", choices=(*IMAGES, *DEVELOPMENT), help=_ONLY)
    _add_sources(command)


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write to")
    command.add_argument("--output", choices=("table", "json"), default="table", help=_OUTPUT)


def _add_sources(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--debs",
        action="append",
        metavar="apt|DIR|URL",
        help=f"where Debian packages come from; may be repeated; default: {APT}, this machine's own",
    )
    command.add_argument("--wheels", type=Path, metavar="DIR", help="where wheels are; default: pip gets them")
    command.add_argument("--cache", type=Path, metavar="DIR", help="where inputs are kept; default: in ~/.cache")
