"""Gathers the shares: all brokers at once, each with capped retries, until every share is here or time is over."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import httpx

from mcbn_protocol.manifest import AgreedManifest
from mcbn_workload.brokers.addresses import Connector
from mcbn_workload.brokers.client import BrokerClient, Terms
from mcbn_workload.brokers.errors import QuorumIncompleteError
from mcbn_workload.brokers.manifest import broker_address
from mcbn_workload.brokers.outcomes import NoValidAnswer, Outcome, Refused, Released, Row
from mcbn_workload.errors import ConfigurationError

_log: Final = logging.getLogger("mcbn.workload.brokers")

ATTEMPTS_MAX: Final = 12
BACKOFF_FIRST: Final = 0.5  # seconds, doubled with each attempt
BACKOFF_MAX: Final = 10.0

Progress = Callable[[Row, Outcome], None]
"""Takes the outcome of one attempt; it must answer at once."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long to go on, and how to wait between attempts.

    Attributes:
        gather_seconds: The deadline of a whole gathering.
        jitter: A random number from 0 to 1, so that workloads that start together do not ask together.
        sleep: Waits for some seconds.
    """

    gather_seconds: float
    jitter: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def pause(self, attempt: int, retry_after: float | None) -> float:
        """Return the seconds to wait after the given attempt (from 1): back-off with jitter, or what was asked for."""
        backoff = min(BACKOFF_MAX, BACKOFF_FIRST * 2.0 ** (attempt - 1)) * (1 + self.jitter()) / 2
        return max(backoff, 0.0 if retry_after is None else retry_after + self.jitter())


@dataclass(frozen=True)
class Gathering:
    """What came of one gathering: a row for each participant asked, and what was released."""

    agreed: AgreedManifest
    rows: tuple[Row, ...]
    released: Mapping[str, Released]
    threshold: int

    def require_complete(self) -> None:
        """Check that enough shares were released.

        Raises:
            QuorumIncompleteError: Some are missing; it names them and says why.
        """
        if len(self.released) < self.threshold:
            raise QuorumIncompleteError(self.rows, self.threshold)


class Quorum:
    """Asks the brokers of one manifest."""

    def __init__(self, terms: Terms, connector: Connector, patience: Patience, overrides: Mapping[str, str]) -> None:
        self._terms = terms
        self._connector = connector
        self._patience = patience
        self._overrides = overrides

    async def gather(self, participants: Iterable[str], progress: Progress) -> Gathering:
        """Ask these participants' brokers at the same time. Whether it is complete is the caller's to check.

        Args:
            participants: Names of the roster.
            progress: Gets the outcome of each attempt as it comes.
        """
        deadline = asyncio.get_running_loop().time() + self._patience.gather_seconds
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._pursue(name, deadline, progress)) for name in participants]
        results = [task.result() for task in tasks]
        return Gathering(
            self._terms.agreed,
            tuple(row for row, _ in results),
            {row.participant: outcome for row, outcome in results if isinstance(outcome, Released)},
            self._terms.roster.threshold,
        )

    async def _pursue(self, participant: str, deadline: float, progress: Progress) -> tuple[Row, Outcome]:
        pursuit = _Pursuit(participant, self._terms, self._patience, progress)
        try:
            manifest = self._terms.agreed.manifest
            address = broker_address(manifest, participant, self._overrides)
            async with self._connector.client(address, insecure_http=manifest.insecure_http) as http:
                await pursuit.run(http, deadline)
        except ConfigurationError as error:
            pursuit.outcome = NoValidAnswer(str(error), final=True)
        row = pursuit.row()
        _report(row, pursuit.outcome)
        return row, pursuit.outcome


class _Pursuit:
    """One broker, asked again and again until its outcome is final or time is over."""

    def __init__(self, participant: str, terms: Terms, patience: Patience, progress: Progress) -> None:
        self._participant = participant
        self._terms = terms
        self._patience = patience
        self._progress = progress
        self._started = terms.clock.boottime()
        self._attempts = 0
        self.outcome: Outcome = NoValidAnswer("no answer before the gathering deadline", final=False)

    async def run(self, http: httpx.AsyncClient, deadline: float) -> None:
        """Ask until an outcome is final, the attempts are used up, or the deadline (event loop time) passes."""
        client = BrokerClient(self._participant, http, self._terms)
        try:
            async with asyncio.timeout_at(deadline):
                while await self._attempt(client):
                    pause = self._patience.pause(self._attempts, self.outcome.retry_after)
                    if asyncio.get_running_loop().time() + pause >= deadline:
                        return
                    await self._patience.sleep(pause)
        except TimeoutError:
            _log.debug("%s: the gathering deadline passed", self._participant)

    async def _attempt(self, client: BrokerClient) -> bool:
        """Ask once. Returns whether to ask again."""
        self._attempts += 1
        self.outcome = await client.attempt()
        self._progress(self.row(), self.outcome)
        return not self.outcome.final and self._attempts < ATTEMPTS_MAX

    def row(self) -> Row:
        """Return the table's line for what came of it so far."""
        seconds = self._terms.clock.boottime() - self._started
        return Row.of(self._participant, self.outcome, seconds=seconds, attempts=self._attempts)


def _report(row: Row, outcome: Outcome) -> None:
    """Log one line for each broker. A share is a `Secret`, and is not among the fields."""
    fields: dict[str, object] = {
        "event": row.outcome,
        "participant": row.participant,
        "milliseconds": round(row.seconds * 1000),
        "attempts": row.attempts,
    }
    if isinstance(outcome, Released):
        fields |= {"lease_seconds": outcome.lease.seconds, "audit_sequence": outcome.audit_sequence}
    if isinstance(outcome, Refused):
        refusal = outcome.refusal
        fields |= {"code": row.code, "check": refusal.check, "correlation_id": refusal.correlation_id}
    _log.log(logging.INFO if row.complete else logging.WARNING, "%s", row.text, extra=fields)
