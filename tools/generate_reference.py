"""Write docs/reference from the tables in the code, or with --check fail where the files differ from them.

Exit codes come from `EXIT_CODES` in each package's `errors` module, wherever there is one: name -> an entry with
`number` and `meaning`, or a member of an IntEnum -> its meaning. Refusals come from the protocol's table, the commands
from their own help.
"""

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import typer.main

from mcbn_protocol.refusals import REFUSAL_CODES

REFERENCE: Final = Path(__file__).resolve().parent.parent / "docs" / "reference"
HEAD: Final = "<!-- Made by tools/generate_reference.py from the tables in the code. Do not edit. -->\n\n"
HELP_WIDTH: Final = 100


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
    for program in ("mcbn-broker", "mcbn-workload", "mcbn-simulator"):
        rows = exit_codes(program.replace("-", "_"))
        if rows:
            text += f"\n## {program}\n\n" + table(("exit code", "name", "meaning"), rows)
    return text


def helps(command: Any, name: str, parent: Any = None) -> Iterator[tuple[str, str]]:
    """Give the path and the help text of a command and of everything below it; typer keeps their classes private."""
    context = command.context_class(command, info_name=name, parent=parent, terminal_width=HELP_WIDTH)
    yield context.command_path, command.get_help(context)
    for below, child in getattr(command, "commands", {}).items():
        yield from helps(child, below, context)


def broker_cli_page() -> str:
    """Return the help of every `mcbn-broker` command."""
    cli = importlib.import_module("mcbn_broker.cli")
    text = "# mcbn-broker\n"
    for path, help_text in helps(typer.main.get_command(cli.app), "mcbn-broker"):
        plain = "\n".join(line.rstrip() for line in help_text.splitlines())
        text += f"\n## `{path}`\n\n```text\n{plain}\n```\n"
    return text


PAGES: Final = {
    "errors.md": errors_page,
    "exit-codes.md": exit_codes_page,
    "broker-cli.md": broker_cli_page,
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
    pages = {name: HEAD + page() for name, page in PAGES.items()}
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
