"""Counts requests that failed before a good signature, so that they reach the audit only in summary."""

from collections import Counter

from mcbn_broker.audit.chain import AuditKind, ChainEntry
from mcbn_broker.release.stores import Transaction


class Rejections:
    """Counts by refusal code and failing check; both come from closed lists, so the table stays small."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, code: str, check: str | None = None) -> None:
        """Count one rejected request."""
        self._counts[code if check is None else f"{code}/{check}"] += 1

    def take(self) -> dict[str, int]:
        """Return the counts since the last time and begin anew."""
        counts, self._counts = self._counts, Counter()
        return dict(counts)

    def give_back(self, counts: dict[str, int]) -> None:
        """Add counts that could not be written."""
        self._counts.update(counts)


def record_rejections(transaction: Transaction, *, counts: dict[str, int], now: int) -> ChainEntry:
    """Write a summary into the audit."""
    return transaction.append(AuditKind.REJECTED_SUMMARY, now, {"counts": dict(counts)})
