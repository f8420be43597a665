"""Brings a database to the schema that this program needs."""

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from mcbn_broker.errors import StorageError
from mcbn_broker.storage.schema import SCHEMA

_SCRIPTS: Final = Path(__file__).with_name("migrations")


def current_schema(connection: Connection) -> str | None:
    """Return the database's schema, or None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def migrate(connection: Connection) -> None:
    """Run the migrations that are missing, inside of the caller's transaction.

    Raises:
        StorageError: The schema is newer than this program.
    """
    found = current_schema(connection)
    if found == SCHEMA:
        return
    from alembic import command  # noqa: PLC0415  # slow to import, and most runs migrate nothing
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise StorageError(
            f"the database has the schema {found}, newer than this program's {SCHEMA}: run the newer one"
        )
    command.upgrade(config, "head")
