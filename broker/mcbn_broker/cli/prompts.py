"""What a command asks a person. Without a terminal nothing is asked: the error names the option to use instead."""

import stat
import sys
from pathlib import Path

import typer

from mcbn_broker.ceremony.files import read_file
from mcbn_broker.ceremony.passphrase import CHARACTERS_MAX, CHARACTERS_MIN, Passphrase
from mcbn_broker.cli.text import say
from mcbn_broker.errors import CeremonyError, UsageError

_PASSPHRASE_BYTES = 4 * CHARACTERS_MAX + 2
CONSENT_KEY = "the consent key"


def read_passphrase(file: Path | None, *, new: bool, of: str = CONSENT_KEY) -> Passphrase:
    """Return the passphrase of a consent key or backup, from its file or the terminal; a new one is asked for twice.

    A new one of another form is refused before it is repeated, and asked for anew.

    Raises:
        UsageError: No terminal and no file; a file that others may read, or that is not UTF-8.
        CeremonyError: Too short, in a file or where it is not a new one.
    """
    if file is not None:
        return Passphrase.from_text(_first_line(file))
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for the passphrase: give --passphrase-file FILE")
    if not new:
        return Passphrase.from_text(typer.prompt(f"Passphrase of {of}", hide_input=True, err=True))
    prompt = f"Passphrase of {of} (at least {CHARACTERS_MIN} characters)"
    chosen: Passphrase = typer.prompt(
        prompt, hide_input=True, confirmation_prompt=True, err=True, value_proc=_new_passphrase
    )
    return chosen


def _new_passphrase(text: str) -> Passphrase:
    """Take a passphrase before it is repeated. What is wrong with it is said here: typer hides it, and asks anew.

    Raises:
        BadParameter: It is of another form.
    """
    try:
        return Passphrase.from_text(text)
    except CeremonyError as error:
        say(f"Not taken: {error}.")
        raise typer.BadParameter(str(error)) from error


def _first_line(file: Path) -> str:
    _check_mode(file)
    try:
        text = read_file(file, limit=_PASSPHRASE_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8") from error
    return text.removesuffix("\n").removesuffix("\r")


def _check_mode(file: Path) -> None:
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"{file} can be used by others: find out who read it, then: chmod 600 {file}")


def confirm(question: str, *, yes: bool) -> None:
    """Ask a question that only a person can answer.

    Args:
        question: Answered with y or n; no answer means no.
        yes: The person has answered on the command line already.

    Raises:
        UsageError: There is no terminal to ask at.
        CeremonyError: The answer is no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask at: give --yes once you have checked it")
    if not typer.confirm(question, err=True):
        raise CeremonyError("not confirmed, so nothing was done")


def ask_words(words: str, *, option: str) -> str:
    """Have a person type words; whoever asks compares them.

    Args:
        words: What goes on, typed exactly.
        option: Gives the words where there is no terminal.

    Raises:
        UsageError: There is no terminal to ask at.
    """
    if not sys.stdin.isatty():
        raise UsageError(f'no terminal: give {option} "{words}"')
    return str(typer.prompt(f'Type "{words}" to go on', err=True))
