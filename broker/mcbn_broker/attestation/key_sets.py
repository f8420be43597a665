"""Keeps the issuers' key sets: fetched rarely, shared by all requests, never replaced by anything worse."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mcbn_broker.attestation.errors import KeysUnavailable, NotAuthentic, TokenCheck
from mcbn_broker.attestation.fetching import DocumentError
from mcbn_broker.attestation.published_keys import PublishedKeys, fetch_published_keys
from mcbn_broker.telemetry.logs import logger

_LOOK_AGAIN_SECONDS: Final = 5.0  # how soon the background task notices an issuer that it was told to follow
_SHORTEST_SLEEP_SECONDS: Final = 0.1
_REFRESH_FROM, _REFRESH_SPREAD = 0.7, 0.2  # a set is fetched anew at 70 to 90% of its lifetime


@dataclass(frozen=True)
class KeySetLimits:
    """When key sets are fetched and how long they serve, in seconds.

    Attributes:
        fetch_deadline: For discovery and key set together.
        cooldown: Between two fetches of a set that serves, however many unknown key ids are asked for.
        backoff_first: After the first failure; it doubles with each further one.
        backoff_most: The most it grows to.
        lifetime_least: A set is fresh at least this long, whatever its Cache-Control says.
        lifetime_most: And at most this long: a key that the issuer withdraws is out of use by then.
        hard_limit: How long a set serves when it cannot be fetched anew. An attacker who cuts the broker off can keep a
            withdrawn key in use for this long; a service outage longer than this stops all releases.
        absent_ids: How many key ids that a set was found not to have are remembered (a number, not seconds).
    """

    fetch_deadline: float = 10.0
    cooldown: float = 30.0
    backoff_first: float = 1.0
    backoff_most: float = 60.0
    lifetime_least: float = 300.0
    lifetime_most: float = 3600.0
    hard_limit: float = 24 * 3600.0
    absent_ids: int = 256


@dataclass(frozen=True)
class KeySetState:
    """What is known of one issuer's key set, for readiness, metrics and `status`.

    Attributes:
        issuer: The attestation service.
        age_seconds: Since the fetch that gave the present set, or None if there was none.
        keys: How many keys it has.
        usable: Whether tokens can be judged by it now.
        failures: Fetches that failed since the last good one.
        last_error: Why the last fetch failed, or None.
    """

    issuer: str
    age_seconds: float | None
    keys: int
    usable: bool
    failures: int
    last_error: str | None


def warn_of_failed_fetch(state: KeySetState) -> None:
    """Log a fetch that failed, at once: no request may come to ask for the key set."""
    logger().warning(
        "key_set_not_fetched",
        issuer=state.issuer,
        failures=state.failures,
        usable=state.usable,
        detail=state.last_error,
    )


@dataclass(eq=False)
class _Entry:
    """One issuer's set and the fetch under way. Times are the clock's."""

    issuer: str
    keys: Mapping[str, RSAPublicKey] = field(default_factory=dict)
    generation: int = 0
    fetched_at: float = -math.inf
    fresh_until: float = -math.inf
    refresh_at: float = -math.inf
    no_fetch_before: float = -math.inf
    failures: int = 0
    last_error: str | None = None
    absent: set[str] = field(default_factory=set)
    flight: asyncio.Task[None] | None = None


class KeySets:
    """The key sets of all issuers that the manifests name.

    Args:
        client: From `fetching.new_client`; the caller closes it after `aclose`.
        limits: When to fetch.
        clock: Seconds that never step back (`time.monotonic`): a changed wall clock must not age or freshen a key.
        sleep: `asyncio.sleep`.
        jitter: A random number from 0 to below 1, so that brokers restarted together do not fetch together.
        on_failure: Told of each fetch that failed. They back off, so that it is not told often.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        *,
        limits: KeySetLimits,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        jitter: Callable[[], float],
        on_failure: Callable[[KeySetState], None] = warn_of_failed_fetch,
    ) -> None:
        self._client = client
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._on_failure = on_failure
        self._entries: dict[str, _Entry] = {}

    def follow(self, issuers: Iterable[str]) -> None:
        """Keep the sets of exactly these issuers fresh; the sets of others are forgotten."""
        self._entries = {issuer: self._entry(issuer) for issuer in issuers}

    async def refresh_forever(self) -> None:
        """Fetch each followed set before it goes stale, until cancelled. Failures are kept in `states`."""
        while True:
            now = self._clock()
            async with asyncio.TaskGroup() as group:
                for entry in self._entries.values():
                    if self._due_at(entry) <= now:
                        group.create_task(self._refresh(entry))
            await self._sleep(self._until_next_due())

    async def key(self, issuer: str, key_id: str) -> RSAPublicKey:
        """Return one key of an issuer's set, fetching the set first if it is stale or does not have the key.

        Args:
            issuer: A name that the manifest trusts; any name given here is followed.
            key_id: From the token's header, of the shape `strict_jws.KEY_ID`.

        Raises:
            NotAuthentic: `token.key`: the set was fetched after the key was first asked for, and does not have it.
            KeysUnavailable: There is no set within the hard limit, or the look for an unknown key has to wait.
        """
        entry = self._entries.setdefault(issuer, self._entry(issuer))
        generation = entry.generation
        await self._prepare(entry, key_id)
        if not self._usable(entry):
            raise KeysUnavailable(self._wait(entry), f"no usable key set of {issuer}: {entry.last_error}")
        if key_id in entry.keys:
            return entry.keys[key_id]
        if entry.generation != generation and len(entry.absent) < self._limits.absent_ids:
            entry.absent.add(key_id)
        if entry.generation != generation or key_id in entry.absent:
            raise NotAuthentic(TokenCheck.KEY, f"the key set of {issuer} has no key {key_id}")
        raise KeysUnavailable(self._wait(entry), f"key {key_id} is not in the present key set of {issuer}")

    def age(self, issuer: str) -> float | None:
        """Return the seconds since the present set was fetched, or None if there is none."""
        entry = self._entries.get(issuer)
        return None if entry is None else self._age(entry)

    def states(self) -> tuple[KeySetState, ...]:
        """Return what is known of each followed issuer's set."""
        return tuple(self._state(entry) for entry in self._entries.values())

    async def aclose(self) -> None:
        """End the fetches that are under way. Requests that wait for one are cancelled with it."""
        flights = [entry.flight for entry in self._entries.values() if entry.flight is not None]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def _state(self, entry: _Entry) -> KeySetState:
        return KeySetState(
            issuer=entry.issuer,
            age_seconds=self._age(entry),
            keys=len(entry.keys),
            usable=self._usable(entry),
            failures=entry.failures,
            last_error=entry.last_error,
        )

    def _age(self, entry: _Entry) -> float | None:
        return self._clock() - entry.fetched_at if entry.generation else None

    def _entry(self, issuer: str) -> _Entry:
        return self._entries.get(issuer) or _Entry(issuer)

    def _usable(self, entry: _Entry) -> bool:
        return self._clock() - entry.fetched_at <= self._limits.hard_limit

    def _wait(self, entry: _Entry) -> int:
        return max(1, math.ceil(entry.no_fetch_before - self._clock()))

    @staticmethod
    def _due_at(entry: _Entry) -> float:
        return max(entry.refresh_at, entry.no_fetch_before)

    def _until_next_due(self) -> float:
        due = min((self._due_at(entry) for entry in self._entries.values()), default=math.inf)
        return min(max(due - self._clock(), _SHORTEST_SLEEP_SECONDS), _LOOK_AGAIN_SECONDS)

    async def _prepare(self, entry: _Entry, key_id: str) -> None:
        """Make the set as good for this key as it can be now.

        Once the service has failed, requests for a key that the old set still serves no longer wait for it: an outage
        in which every fetch hangs delays the requests of one fetch, not all of them.
        """
        known = key_id in entry.keys
        if known and self._clock() < entry.fresh_until:
            return
        if known and entry.failures and self._usable(entry):
            self._flight(entry)
        else:
            await self._refresh(entry)

    async def _refresh(self, entry: _Entry) -> None:
        """Wait for the fetch under way, if there is one or may be one. A waiter that gives up does not end it."""
        flight = self._flight(entry)
        if flight is not None:
            await asyncio.shield(flight)

    def _flight(self, entry: _Entry) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one unless it is too soon."""
        if entry.flight is None and self._clock() >= entry.no_fetch_before:
            entry.flight = asyncio.create_task(self._fetch(entry))
        return entry.flight

    async def _fetch(self, entry: _Entry) -> None:
        started = self._clock()
        entry.no_fetch_before = started + self._limits.cooldown
        try:
            published = await fetch_published_keys(
                self._client, entry.issuer, deadline_seconds=self._limits.fetch_deadline
            )
        except DocumentError as error:
            self._note_failure(entry, str(error))
        else:
            self._replace(entry, published, started)
        finally:
            entry.flight = None

    def _replace(self, entry: _Entry, published: PublishedKeys, started: float) -> None:
        limits = self._limits
        asked = limits.lifetime_least if published.maximum_age_seconds is None else published.maximum_age_seconds
        lifetime = min(max(asked, limits.lifetime_least), limits.lifetime_most)
        entry.keys = published.keys
        entry.generation += 1
        entry.fetched_at = started
        entry.fresh_until = started + lifetime
        entry.refresh_at = started + lifetime * (_REFRESH_FROM + _REFRESH_SPREAD * self._jitter())
        entry.failures, entry.last_error = 0, None
        entry.absent.clear()

    def _note_failure(self, entry: _Entry, problem: str) -> None:
        """Back off. While a set serves, an unknown key id may not shorten the cooldown by making fetches fail."""
        limits = self._limits
        growth = limits.backoff_first * 2.0 ** min(entry.failures, 32)
        backoff = min(growth, limits.backoff_most) * (1 + self._jitter()) / 2
        least = limits.cooldown if self._usable(entry) else 0.0
        entry.failures += 1
        entry.last_error = problem
        entry.no_fetch_before = self._clock() + max(backoff, least)
        self._on_failure(self._state(entry))
