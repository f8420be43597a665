"""The tables. Their like in `migrations` makes them; a test keeps the two equal."""

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

SCHEMA: Final = "0001"
"""The newest migration, which this program needs."""


class Blob(TypeDecorator[bytes]):
    """Bytes, also where somebody edited a text into their place (SQLite lets it): whoever reads them judges them."""

    impl = LargeBinary
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes:  # noqa: ARG002  # its interface
        """Return the value's bytes."""
        return value if isinstance(value, bytes) else str(value).encode()


metadata: Final = MetaData()

meta: Final = Table(
    "meta",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="meta_one_row"), primary_key=True, autoincrement=False),
    Column("incarnation", Blob(16), nullable=False),
    Column("participant", String(32), nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("lowest_epoch", BigInteger, nullable=False),
)
"""One row. `revision` rises with each change of what may be released; below `lowest_epoch` nothing is."""

consent: Final = Table(
    "consent",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="consent_one_row"), primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
)

shares: Final = Table(
    "shares",
    metadata,
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("commitment", Blob(32), nullable=False, unique=True),
    Column("sealed", Blob, nullable=False),
    Column("made_at", BigInteger, nullable=False),
)

manifests: Final = Table(
    "manifests",
    metadata,
    Column("epoch", BigInteger, ForeignKey("shares.epoch"), primary_key=True, autoincrement=False),
    Column("hash", Blob(32), nullable=False, unique=True),
    Column("bundle", Blob, nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
    Column("retired_at", BigInteger, nullable=True),
)

challenges_used: Final = Table(
    "challenges_used",
    metadata,
    Column("hash", Blob(32), primary_key=True),
    Column("expires_at", BigInteger, nullable=False, index=True),
    sqlite_with_rowid=False,
)

leases: Final = Table(
    "leases",
    metadata,
    Column("role", String(16), primary_key=True),
    Column("instance_id", String(256), primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

audit: Final = Table(
    "audit",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("record", Blob, nullable=False),
    Column("hash", Blob(32), nullable=False),
)
