"""What a data directory's database says of itself: how far it has come."""

from dataclasses import dataclass

from sqlalchemy import select

from mcbn_broker.audit.chain import ChainHead
from mcbn_broker.errors import StorageError
from mcbn_broker.keystore.home import Home
from mcbn_broker.storage.database import Database
from mcbn_broker.storage.migrate import migrate
from mcbn_broker.storage.schema import audit, manifests, meta
from mcbn_broker.storage.transaction import read_head, read_highest_epoch
from mcbn_protocol.identifiers import ManifestHash


@dataclass(frozen=True)
class Facts:
    """How far a broker has come.

    Attributes:
        participant: Whose database it is.
        head: The audit's end.
        epoch: The highest epoch ever accepted, 0 before the first.
        manifest_hash: The hash of that epoch's manifest, or None if it is not there.
        hashes: The audit's chain hashes by sequence.
    """

    participant: str
    head: ChainHead
    epoch: int
    manifest_hash: ManifestHash | None
    hashes: dict[int, bytes]

    @property
    def named(self) -> str:
        """The manifest in words: `epoch 3 3f1c...`, all of its hash; or `no epoch`."""
        if self.manifest_hash is None:
            return "no epoch" if self.epoch == 0 else f"epoch {self.epoch} without a manifest"
        return f"epoch {self.epoch} {self.manifest_hash.hex()}"


def read_facts(home: Home) -> Facts:
    """Read a database that nobody else uses, after it was brought to this program's schema.

    Raises:
        StorageError: It cannot be read.
    """
    database = Database(home.database_path)
    try:
        database.check_integrity()
        with database.write() as connection:
            migrate(connection)
            whose = connection.execute(select(meta.c.participant)).scalar_one_or_none()
            if whose is None:
                raise StorageError(f"{home.database_path} is empty: no init was ever finished on it")
            epoch = read_highest_epoch(connection)
            found = connection.execute(select(manifests.c.hash).where(manifests.c.epoch == epoch)).scalar_one_or_none()
            rows = connection.execute(select(audit.c.sequence, audit.c.hash))
            hashes = {row.sequence: row.hash for row in rows}
            return Facts(whose, read_head(connection), epoch, None if found is None else ManifestHash(found), hashes)
    finally:
        database.close()
