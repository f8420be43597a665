"""How many refusals get a full record in the audit, so that nobody can fill the disk with them."""

from collections import Counter
from typing import Final

RECORDS_PER_HOUR: Final = 240
RECORDS_PER_PROJECT: Final = 60
_HOUR_SECONDS: Final = 3600


class RecordBudget:
    """Full records of refusals in one hour, altogether and for one project of the cloud.

    Anybody who can start a Confidential Space VM gets genuine tokens for our public audience, and so refusals after a
    good signature. Those beyond the budget are counted in the audit's summary instead.
    """

    def __init__(self) -> None:
        self._hour = 0
        self._all = 0
        self._of: Counter[str] = Counter()

    def admits(self, project: str, now: int) -> bool:
        """Take a record's place in the hour of `now` (Unix seconds); False if there is none left."""
        self._begin(now // _HOUR_SECONDS)
        if self._all >= RECORDS_PER_HOUR or self._of[project] >= RECORDS_PER_PROJECT:
            return False
        self._all += 1
        self._of[project] += 1
        return True

    def _begin(self, hour: int) -> None:
        if hour != self._hour:
            self._hour, self._all, self._of = hour, 0, Counter()
