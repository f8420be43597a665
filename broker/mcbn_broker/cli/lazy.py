"""Commands whose modules are imported when they are typed: each needs a part of the program, and few need all of it."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Final

from typer.core import TyperGroup
from typer.main import get_group_from_info
from typer.models import TyperInfo


class LazyCommands(Mapping[str, Any]):
    """Commands by their names, in order; each is made when it is asked for, as `Typer.add_typer` would make it.

    Args:
        modules: By command, the module whose `app` has that command, or is that noun.
    """

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules: Final = modules

    def __getitem__(self, name: str) -> Any:
        """Import and return the command."""
        app = import_module(self._modules[name]).app
        noun = get_group_from_info(
            TyperInfo(app, name=name), pretty_exceptions_short=True, suggest_commands=True, rich_markup_mode=None
        )
        return noun.commands.get(name, noun)

    def __iter__(self) -> Iterator[str]:
        """Give the names; nothing is imported."""
        return iter(self._modules)

    def __len__(self) -> int:
        """Count them."""
        return len(self._modules)


def lazy_group(modules: Mapping[str, str]) -> type[TyperGroup]:
    """Return the class of a group, for `Typer(cls=...)`, that has the commands of these modules.

    Args:
        modules: See `LazyCommands`.
    """

    class LazyGroup(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.commands: Any = LazyCommands(modules)

    return LazyGroup
