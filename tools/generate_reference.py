"""Write docs/reference from the tables in the code, or with --check fail where the files differ from them.

Exit codes come from `EXIT_CODES` in each package's `errors` module, wherever there is one: name -> an entry with
`number` and `meaning`, or a member of an IntEnum -> its meaning. Refusals come from the protocol's table, the commands
from their own help, settings and policy from the attributes and docstrings of their classes.
"""

import argparse
import functools
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import typer.main
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from mcbn_broker.api.routes import create_api
from mcbn_broker.release.service import ReleaseService
from mcbn_broker.settings import Settings
from mcbn_broker.telemetry.metrics import Metrics
from mcbn_protocol.refusals import REFUSAL_CODES

REFERENCE: Final = Path(__file__).resolve().parent.parent / "docs" / "reference"
HEAD: Final = "<!-- Made by tools/generate_reference.py from the tables in the code. Do not edit. -->\n\n"
HELP_WIDTH: Final = 100
POLICY_EXAMPLE: Final = """\
project_numbers = ["100000000001"]
zones = ["europe-west4-a", "europe-west4-b"]
maximum_token_age_seconds = 300

[roles.server]
hwmodels = ["GCP_INTEL_TDX"]
"""


def table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def errors_page() -> str:
    """Return the page of refusal codes."""
    rows = (
        (f"`{one.code}`", str(one.status), one.title, one.next_step, "yes" if one.transient else "no")
        for one in REFUSAL_CODES.values()
    )
    return (
        "# Refusals of a broker\n\n"
        "A refusal is an RFC 9457 problem whose `code` is one of these. Once the request's challenge was found to be\n"
        "the broker's own, the refusal is signed with its release key. `transient`: the same request, made anew, may\n"
        "succeed without anybody acting.\n\n"
    ) + table(("code", "status", "meaning", "next step", "transient"), rows)


def exit_codes(package: str) -> list[tuple[str, str, str]]:
    """Return number, name and meaning of a package's exit codes, or nothing if it has no table."""
    found: Mapping[Any, Any] = getattr(importlib.import_module(f"{package}.errors"), "EXIT_CODES", {})
    return [
        (str(key.value), key.name.lower(), entry)
        if isinstance(key, IntEnum)
        else (str(entry.number), key, entry.meaning)
        for key, entry in found.items()
    ]


def exit_codes_page() -> str:
    """Return the page of exit codes."""
    text = "# Exit codes\n\nThe numbers are stable.\n"
    for package in ("mcbn_broker", "mcbn_workload", "mcbn_simulator", "mcbn_images", "mcbn_smoke"):
        rows = exit_codes(package)
        if rows:
            program = "deploy/smoke" if package == "mcbn_smoke" else package.replace("_", "-")
            text += f"\n## {program}\n\n" + table(("exit code", "name", "meaning"), rows)
    return text


def helps(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, str]]:
    """Give the path and the help text of a command and of everything below it; typer keeps their classes private."""
    context = command.context_class(command, info_name=name, parent=parent, terminal_width=HELP_WIDTH)
    yield context.command_path, command.get_help(context)
    for below, child in getattr(command, "commands", {}).items():
        yield from helps(child, below, context)


def cli_page(program: str, sections: Iterable[tuple[str, str]]) -> str:
    """Return a page with the help of every command of a program: path and help text of each."""
    text = f"# {program}\n"
    for path, help_text in sections:
        plain = "\n".join(line.rstrip() for line in help_text.strip("\n").splitlines())
        text += f"\n## `{path}`\n\n```text\n{plain}\n```\n"
    return text


def typer_page(program: str) -> str:
    """Return the help of every command of a program made with typer."""
    cli = importlib.import_module(f"{program.replace('-', '_')}.cli")
    return cli_page(program, helps(typer.main.get_command(cli.app), program))


def argparse_helps(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Give the path and the help text of a parser and of every command below it, whatever the terminal's width."""
    formatter: Any = parser.formatter_class
    parser.formatter_class = functools.partial(formatter, width=HELP_WIDTH)
    yield parser.prog, parser.format_help()
    for action in parser._actions:  # noqa: SLF001  # argparse has no public way to its subcommands
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  # same
            for child in action.choices.values():
                yield from argparse_helps(child)


def workload_cli_page() -> str:
    """Return the help of every `mcbn-workload` command."""
    arguments = importlib.import_module("mcbn_workload.app.arguments")
    return cli_page("mcbn-workload", argparse_helps(arguments.new_parser()))


def images_cli_page() -> str:
    """Return the help of every `mcbn-images` command."""
    arguments = importlib.import_module("mcbn_images.arguments")
    return cli_page("mcbn-images", argparse_helps(arguments.new_parser()))


def smoke_page() -> str:
    """Return the help of `deploy/smoke`."""
    arguments = importlib.import_module("mcbn_smoke.arguments")
    return cli_page("deploy/smoke", argparse_helps(arguments.new_parser()))


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstring of a class says of each of its attributes.

    Raises:
        ValueError: It leaves one out, or names one that there is not.
    """
    _head, _, attributes = inspect.cleandoc(model.__doc__ or "").partition("\nAttributes:\n")
    found = re.findall(r"^    (\w+): (.+(?:\n {8}.+)*)", attributes, flags=re.MULTILINE)
    texts = {name: " ".join(text.split()) for name, text in found}
    own = {name for name in model.model_fields if name in inspect.get_annotations(model)}
    if set(texts) != own:
        raise ValueError(f"{model.__name__}: docstring and attributes differ: {sorted(set(texts) ^ own)}")
    return texts


def default(model: type[BaseModel], name: str) -> str:
    """Return an attribute's default as TOML has it."""
    value = model.model_fields[name].default
    if value is PydanticUndefined:
        return "see above"
    if value is None:
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def broker_settings_page() -> str:
    """Return the page of the broker's settings."""
    model = importlib.import_module("mcbn_broker.settings").Settings
    rows = (
        (f"`{name}`", default(model, name), f"`MCBN_{name.upper()}`", text) for name, text in meanings(model).items()
    )
    return (
        "# Settings of mcbn-broker serve\n\n"
        "Command line before environment before `DATA_DIR/broker.toml` before default. An unknown name in the file is\n"
        "an error. `data_dir`, `kek_file`, `kek` and `kms_endpoint` are never taken from the\n"
        "file: their defaults are in the help of\n"
        "[mcbn-broker serve](broker-cli.md).\n\n"
    ) + table(("setting", "default", "environment", "meaning"), rows)


def policy_page() -> str:
    """Return the page of a participant's own policy."""
    module = importlib.import_module("mcbn_broker.appraisal.policy")
    shared, whole = meanings(module.Limits), meanings(module.Policy)
    return (
        "# policy.toml\n\n"
        "A participant's own appraisal policy, `DATA_DIR/policy.toml`. It narrows what the manifest admits and can\n"
        "widen nothing. Every member may be left out; an unknown one is an error. `serve` reads it at start and at\n"
        f"SIGHUP. For example:\n\n```toml\n{POLICY_EXAMPLE}```\n\n"
        "## At the top, for both roles\n\n"
    ) + (
        table(("member", "meaning"), ((f"`{name}`", text) for name, text in (shared | whole).items()))
        + "\n## In `[roles.client]` and `[roles.server]`, for one role besides\n\n"
        + table(("member", "meaning"), ((f"`{name}`", text) for name, text in shared.items()))
    )


def openapi_document() -> str:
    """Return the release API's OpenAPI document, of an application that is described and never asked."""
    settings = Settings(data_dir=Path("data"), kek_file=Path("kek"))
    api = create_api(object.__new__(ReleaseService), settings, Metrics())
    return json.dumps(api.openapi(), indent=2, sort_keys=True) + "\n"


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "errors.md": errors_page,
    "exit-codes.md": exit_codes_page,
    "broker-cli.md": functools.partial(typer_page, "mcbn-broker"),
    "broker-settings.md": broker_settings_page,
    "policy.md": policy_page,
    "workload-cli.md": workload_cli_page,
    "images-cli.md": images_cli_page,
    "smoke-cli.md": smoke_page,
    "simulator-cli.md": functools.partial(typer_page, "mcbn-simulator"),
}


def stale(folder: Path, pages: Mapping[str, str]) -> list[str]:
    """Return one sentence for each file that differs from its page."""
    return [
        f"{folder / name} is not what the code says"
        for name, text in pages.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]


def main(arguments: list[str]) -> int:
    """Write the pages; with --check write nothing, and return 1 if one differs."""
    pages = {name: HEAD + page() for name, page in PAGES.items()} | {"openapi.json": openapi_document()}
    if arguments == ["--check"]:
        problems = stale(REFERENCE, pages)
        for problem in problems:
            print(f"{problem}. Run `.venv/bin/python tools/generate_reference.py`.", file=sys.stderr)
        return 1 if problems else 0
    if arguments:
        print("usage: generate_reference.py [--check]", file=sys.stderr)
        return 2
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
