import asyncio
from functools import partial
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from structlog.testing import capture_logs

from mcbn_broker.attestation.errors import KeysUnavailable, NotAuthentic
from mcbn_broker.attestation.key_sets import KeySetLimits, KeySets

ISSUER = "https://attestation.example"
KEY_ID = "d6d5071ab75246a42acfa46d29316311cdab51f7"
DAY = 24 * 3600


async def unavailable(key_sets: KeySets, key_id: str = KEY_ID) -> int:
    with pytest.raises(KeysUnavailable) as caught:
        await key_sets.key(ISSUER, key_id)
    return caught.value.retry_after


async def absent(key_sets: KeySets, key_id: str) -> None:
    with pytest.raises(NotAuthentic) as caught:
        await key_sets.key(ISSUER, key_id)
    assert caught.value.check == "token.key"


async def test_the_first_request_fetches_and_the_next_do_not(
    key_sets: KeySets, service: Any, private_key: RSAPrivateKey
) -> None:
    for _ in range(3):
        key = await key_sets.key(ISSUER, KEY_ID)
        assert key.public_numbers() == private_key.public_key().public_numbers()
    assert service.fetches == 1


async def test_many_requests_at_once_share_one_fetch(key_sets: KeySets, service: Any) -> None:
    service.open.clear()
    requests = [asyncio.create_task(key_sets.key(ISSUER, KEY_ID)) for _ in range(100)]
    await asyncio.sleep(0)
    service.open.set()
    assert len(set(map(id, await asyncio.gather(*requests)))) == 1
    assert service.fetches == 1


async def test_a_request_that_gives_up_does_not_end_the_fetch_for_others(key_sets: KeySets, service: Any) -> None:
    service.open.clear()
    first, second = (asyncio.create_task(key_sets.key(ISSUER, KEY_ID)) for _ in range(2))
    await service.arrived.wait()
    first.cancel()
    await asyncio.sleep(0)
    service.open.set()
    assert await second
    assert first.cancelled()


async def test_down_at_start(key_sets: KeySets, service: Any, clock: Any) -> None:
    service.error = httpx.ConnectError("refused")
    assert await unavailable(key_sets) == 1
    assert key_sets.age(ISSUER) is None
    (state,) = key_sets.states()
    assert (state.usable, state.failures, state.keys) == (False, 1, 0)
    assert state.last_error is not None
    assert "ConnectError" in state.last_error
    service.error = None
    clock.now += 1
    assert await key_sets.key(ISSUER, KEY_ID)
    (state,) = key_sets.states()
    assert (state.usable, state.failures, state.last_error, state.keys) == (True, 0, None, 1)


async def test_a_failed_fetch_is_logged_at_once_though_nobody_asks_for_a_key(
    client: Any, service: Any, clock: Any
) -> None:
    async def end(_seconds: float) -> None:
        raise InterruptedError

    service.error = httpx.ConnectError("refused")
    key_sets = KeySets(client, limits=KeySetLimits(), clock=clock, sleep=end, jitter=lambda: 0.5)
    key_sets.follow([ISSUER])
    with capture_logs() as logs, pytest.raises(InterruptedError):
        await key_sets.refresh_forever()
    (line,) = logs
    assert (line["event"], line["log_level"], line["issuer"]) == ("key_set_not_fetched", "warning", ISSUER)
    assert (line["failures"], line["usable"]) == (1, False)
    assert "ConnectError: refused" in line["detail"]


async def test_failures_back_off_with_a_limit(key_sets: KeySets, service: Any, clock: Any) -> None:
    service.error = httpx.ConnectError("refused")
    waits = []
    for _ in range(9):
        waits.append(await unavailable(key_sets))
        assert await unavailable(key_sets) == waits[-1]
        clock.now += waits[-1]
    assert waits == [1, 2, 3, 6, 12, 24, 45, 45, 45]
    assert service.fetches == len(waits)


async def test_jitter_spreads_the_back_off(client: Any, service: Any, clock: Any) -> None:
    service.error = httpx.ConnectError("refused")
    waits = []
    for jitter in ("0.0", "0.5", "0.99"):
        limits = KeySetLimits(backoff_first=60)
        key_sets = KeySets(client, limits=limits, clock=clock, sleep=asyncio.sleep, jitter=partial(float, jitter))
        waits.append(await unavailable(key_sets))
    assert waits == [30, 45, 60]


async def test_down_later_the_old_set_serves_until_the_hard_limit(key_sets: KeySets, service: Any, clock: Any) -> None:
    await key_sets.key(ISSUER, KEY_ID)
    service.error = httpx.ReadTimeout("slow")
    clock.now += DAY
    assert await key_sets.key(ISSUER, KEY_ID)
    assert key_sets.age(ISSUER) == DAY
    clock.now += 1
    assert await unavailable(key_sets) >= 1
    assert not key_sets.states()[0].usable


async def test_while_the_service_is_down_a_stale_set_does_not_cost_a_fetch_per_request(
    key_sets: KeySets, service: Any, clock: Any
) -> None:
    await key_sets.key(ISSUER, KEY_ID)
    service.error = httpx.ConnectError("refused")
    clock.now += 3600
    for _ in range(50):
        assert await key_sets.key(ISSUER, KEY_ID)
    assert service.fetches == 2


async def test_a_service_that_hangs_delays_the_requests_of_one_fetch_only(
    key_sets: KeySets, service: Any, clock: Any
) -> None:
    await key_sets.key(ISSUER, KEY_ID)
    service.error = httpx.ReadTimeout("slow")
    clock.now += 3600
    await key_sets.key(ISSUER, KEY_ID)
    service.open.clear()
    service.error = None
    clock.now += 60
    for _ in range(3):
        assert await key_sets.key(ISSUER, KEY_ID)
    assert key_sets.age(ISSUER) == 3660
    joined = asyncio.create_task(key_sets.key(ISSUER, "unknown"))
    await asyncio.sleep(0)
    service.open.set()
    with pytest.raises(NotAuthentic):
        await joined
    assert key_sets.age(ISSUER) == 0
    assert service.fetches == 3


@pytest.mark.parametrize("broken", [{"keys": []}, {}, {"keys": [{"kty": "oct"}]}])
async def test_an_empty_or_broken_set_never_replaces_a_good_one(
    key_sets: KeySets, service: Any, clock: Any, broken: Any
) -> None:
    await key_sets.key(ISSUER, KEY_ID)
    service.jwks = broken
    clock.now += 3600
    assert await key_sets.key(ISSUER, KEY_ID)
    assert key_sets.states()[0].failures == 1
    assert key_sets.age(ISSUER) == 3600


async def test_a_rotated_key_is_found_and_the_withdrawn_one_is_gone(
    key_sets: KeySets, service: Any, clock: Any, jwk: Any, other_private_key: RSAPrivateKey
) -> None:
    await key_sets.key(ISSUER, KEY_ID)
    service.jwks = {"keys": [jwk(other_private_key, kid="next")]}
    assert await unavailable(key_sets, "next") == 30
    clock.now += 30
    assert await key_sets.key(ISSUER, "next")
    clock.now += 30
    await absent(key_sets, KEY_ID)


async def test_ten_thousand_random_key_ids_cost_one_fetch_per_cooldown(
    key_sets: KeySets, service: Any, clock: Any
) -> None:
    await key_sets.key(ISSUER, KEY_ID)
    for number in range(10_000):
        clock.now = 1000 + number / 100
        with pytest.raises((KeysUnavailable, NotAuthentic)):
            await key_sets.key(ISSUER, f"random-{number}")
    assert service.fetches == 1 + 3  # in 100 s, with a cooldown of 30 s


async def test_while_a_set_serves_failing_fetches_keep_the_cooldown(
    key_sets: KeySets, service: Any, clock: Any
) -> None:
    await key_sets.key(ISSUER, KEY_ID)
    service.error = httpx.ConnectError("refused")
    clock.now += 30
    assert await unavailable(key_sets, "random") == 30
    clock.now += 29
    assert await unavailable(key_sets, "random") == 1
    assert service.fetches == 2


async def test_a_key_id_found_absent_is_remembered_within_bounds(client: Any, service: Any, clock: Any) -> None:
    limits = KeySetLimits(absent_ids=2)
    key_sets = KeySets(client, limits=limits, clock=clock, sleep=asyncio.sleep, jitter=lambda: 0.0)
    asked = [asyncio.create_task(key_sets.key(ISSUER, f"random-{number}")) for number in range(4)]
    for result in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(result, NotAuthentic)
    await absent(key_sets, "random-0")
    await absent(key_sets, "random-1")
    assert await unavailable(key_sets, "random-2") == 30
    assert service.fetches == 1


@pytest.mark.parametrize(
    ("header", "lifetime"),
    [(None, 300), ("max-age=0", 300), ("max-age=301", 301), ("max-age=21600", 3600), ("no-store", 300)],
)
async def test_the_lifetime_is_the_issuers_within_bounds(
    key_sets: KeySets, service: Any, clock: Any, header: str | None, lifetime: int
) -> None:
    service.headers = {} if header is None else {"cache-control": header}
    await key_sets.key(ISSUER, KEY_ID)
    clock.now += lifetime - 1
    await key_sets.key(ISSUER, KEY_ID)
    assert service.fetches == 1
    clock.now += 1
    await key_sets.key(ISSUER, KEY_ID)
    assert service.fetches == 2


class Sleeper:
    """Moves the clock instead of sleeping, and ends the loop after some rounds."""

    def __init__(self, clock: Any, rounds: int) -> None:
        self.clock = clock
        self.rounds = rounds
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        if len(self.slept) == self.rounds:
            raise asyncio.CancelledError
        self.clock.now += seconds


async def refresh(client: Any, clock: Any, rounds: int, *issuers: str) -> tuple[KeySets, Sleeper]:
    sleeper = Sleeper(clock, rounds)
    key_sets = KeySets(client, limits=KeySetLimits(), clock=clock, sleep=sleeper, jitter=lambda: 0.5)
    key_sets.follow(issuers)
    with pytest.raises(asyncio.CancelledError):
        await key_sets.refresh_forever()
    return key_sets, sleeper


async def test_followed_sets_are_fetched_before_any_request_and_before_they_go_stale(
    client: Any, service: Any, clock: Any
) -> None:
    key_sets, sleeper = await refresh(client, clock, 100, ISSUER)
    assert service.fetches == 3  # at 0, and at 80% of 300 s: 240 and 480 s
    assert max(sleeper.slept) <= 5
    assert await key_sets.key(ISSUER, KEY_ID)
    assert service.fetches == 3


async def test_the_background_task_backs_off_too(client: Any, service: Any, clock: Any) -> None:
    service.error = httpx.ConnectError("refused")
    await refresh(client, clock, 100, ISSUER)
    assert clock.now - 1000 > 300
    assert service.fetches == 16  # after 0.75, 1.5, 3, 6, 12 and 24 s, then every 45 s


async def test_without_issuers_the_background_task_only_waits(client: Any, service: Any, clock: Any) -> None:
    _, sleeper = await refresh(client, clock, 3)
    assert sleeper.slept == [5, 5, 5]
    assert service.fetches == 0


async def test_following_others_forgets_the_first(key_sets: KeySets, service: Any) -> None:
    await key_sets.key(ISSUER, KEY_ID)
    key_sets.follow([ISSUER, "https://other.example"])
    assert key_sets.age(ISSUER) == 0
    assert [state.issuer for state in key_sets.states()] == [ISSUER, "https://other.example"]
    key_sets.follow(["https://other.example"])
    assert key_sets.age(ISSUER) is None


async def test_closing_ends_the_fetch_under_way(key_sets: KeySets, service: Any) -> None:
    service.open.clear()
    request = asyncio.create_task(key_sets.key(ISSUER, KEY_ID))
    await service.arrived.wait()
    await key_sets.aclose()
    with pytest.raises(asyncio.CancelledError):
        await request
    await key_sets.aclose()
