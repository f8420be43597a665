"""Statements of the hot path, compiled once and given to the driver: a tenth of what an execution costs otherwise."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement


class Prepared:
    """One statement with named parameters, run inside of a connection's transaction.

    Rows are the driver's own tuples, and errors the driver's own exceptions, which `Database` translates like others.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._compiled: tuple[str, tuple[str, ...]] | None = None

    def fetch(self, connection: Connection, **values: Any) -> list[tuple[Any, ...]]:
        """Return all rows, with a value for each parameter."""
        rows: list[tuple[Any, ...]] = self._execute(connection, values).fetchall()
        return rows

    def change(self, connection: Connection, **values: Any) -> int:
        """Return how many rows were changed, with a value for each parameter."""
        return int(self._execute(connection, values).rowcount)

    def change_all(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it once for each of `rows`, which hold a value for each parameter."""
        if rows:
            text, names = self._compiled or self._compile(connection)
            _driver(connection).executemany(text, [[row[name] for name in names] for row in rows])

    def _execute(self, connection: Connection, values: dict[str, Any]) -> Any:
        text, names = self._compiled or self._compile(connection)
        return _driver(connection).execute(text, [values[name] for name in names])

    def _compile(self, connection: Connection) -> tuple[str, tuple[str, ...]]:
        assert isinstance(self._statement, ClauseElement)  # noqa: S101  # every statement that this package makes is one
        compiled = self._statement.compile(dialect=connection.dialect)
        assert isinstance(compiled, SQLCompiler)  # noqa: S101  # as above
        self._compiled = (compiled.string, tuple(compiled.positiontup or ()))
        return self._compiled


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection
