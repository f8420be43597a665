"""What a person sees while the demo runs: acts, commands and what came of them, on standard error."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.markup import escape


class Narrator:
    """Writes one line for each thing that happens, as it happens.

    Args:
        console: Where; it decides about colour (NO_COLOR, not a terminal).
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def act(self, title: str) -> None:
        """Begin a part."""
        self._console.print()
        self._print(f"[bold]{escape(title)}[/bold]")

    def command(self, who: str, program: str, arguments: Iterable[str | Path]) -> None:
        """Show a command as somebody would type it."""
        typed = shlex.join([program, *map(str, arguments)])
        self._print(f"  [dim]{escape(who)}$ {escape(typed)}[/dim]")

    def step(self, text: str) -> None:
        """Say what happens."""
        self._print(f"  {escape(text)}")

    def good(self, text: str) -> None:
        """Say what went as expected."""
        self._print(f"  [green]✓[/green] {escape(text)}")

    def bad(self, text: str, log: Iterable[str] = ()) -> None:
        """Say what did not go as expected, and show the end of the log that tells why."""
        self._print(f"  [bold red]✗[/bold red] {escape(text)}")
        for line in log:
            self._print(f"    [dim]{escape(line)}[/dim]")

    def warning(self, text: str) -> None:
        """Say what must not be overlooked."""
        self._print(f"[yellow]{escape(text)}[/yellow]")

    def _print(self, markup: str) -> None:
        self._console.print(markup, soft_wrap=True, highlight=False)
