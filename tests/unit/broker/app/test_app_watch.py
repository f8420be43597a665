"""What a running broker says is not ready, and what to do about it."""

import asyncio
from contextlib import aclosing

from mcbn_broker.app.watch import Watch
from mcbn_broker.errors import StorageError


class FreshKeys:
    """Key sets that are always usable."""

    def __init__(self) -> None:
        self._issuers: frozenset[str] = frozenset()

    def follow(self, issuers):
        self._issuers = issuers

    def states(self):
        return ()


def manifest_part(world, store) -> str | None:
    async def look():
        async with aclosing(world.service(store)) as service:
            watch = Watch(service, store, FreshKeys())  # type: ignore[arg-type]  # a double of the key sets
            return (await watch.parts())["manifest"]

    return asyncio.run(look())


def test_without_a_manifest_the_next_step_is_to_accept_one(world, store):
    assert manifest_part(world, store) == "no manifest is in force: run manifest accept"


def test_manifest_in_force_is_ready(world, store, agreed):
    assert manifest_part(world, store) is None


def test_expired_manifest_is_named_with_the_epoch_to_agree_on(world, store, agreed):
    world.open_epoch(store, previous=agreed)
    world.clock.now += 100_000
    expected = "the manifest of epoch 2 expired at 2030-03-18 21:33:20 UTC: agree on epoch 3"
    assert manifest_part(world, store) == expected


def test_manifests_that_cannot_be_read_are_said_to_be_so(world, store, monkeypatch):
    def fail():
        raise StorageError("altered")

    monkeypatch.setattr(store, "status", fail)
    assert "cannot be read" in (manifest_part(world, store) or "")
