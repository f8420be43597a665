"""Why there are no keys, as far as brokers and manifests are the cause."""

from collections.abc import Sequence
from typing import ClassVar

from mcbn_workload.brokers.outcomes import Row
from mcbn_workload.errors import NoKeysError


class ManifestUnavailableError(NoKeysError):
    """No source gave a manifest bundle that every participant of the roster signed."""

    code: ClassVar[str] = "manifest_unavailable"


class ManifestConflictError(NoKeysError):
    """Two manifests of one epoch are signed. Somebody signed twice, so neither is used."""

    code: ClassVar[str] = "manifest_conflict"


class QuorumIncompleteError(NoKeysError):
    """Not every share that is needed was released. `rows` has one row for each participant that was asked."""

    code: ClassVar[str] = "quorum_incomplete"

    def __init__(self, rows: Sequence[Row], threshold: int) -> None:
        self.rows = tuple(rows)
        missing = [row for row in rows if not row.complete]
        super().__init__(
            f"{len(rows) - len(missing)} of {threshold} needed shares were released; missing: "
            + "; ".join(row.text for row in missing)
        )
