"""Rows that somebody edited, damage that is looked for, and keys that no epoch needs any more."""

import sqlite3

import pytest

from mcbn_broker.app.watch import Watch
from mcbn_broker.errors import CeremonyError, StorageError
from mcbn_broker.storage.database import Database
from mcbn_broker.storage.store import Store

EDITS = {
    "consent": "UPDATE consent SET state = 'maybe'",
    "manifest": "UPDATE manifests SET bundle = x'7b7d'",
}


@pytest.fixture(params=EDITS)
def edited(request, world, store, agreed):
    with sqlite3.connect(world.root / "broker.sqlite3") as other:
        other.execute(EDITS[request.param])
        other.execute("UPDATE meta SET revision = revision + 1")
    other.close()


async def test_an_edited_row_is_a_fault_of_the_store(store, service, edited):
    with pytest.raises(StorageError, match="restore a backup"):
        store.terms()
    with pytest.raises(StorageError, match="restore a backup"):
        store.status()
    readiness = await service.readiness()
    assert (readiness.store, readiness.epoch) == (False, None)
    await service.keep_house()


async def test_an_edited_roster_is_a_fault_of_the_store(world, store, agreed, service):
    (world.root / "roster.json").write_bytes(b"{}")
    store.pause()
    assert not (await service.readiness()).store
    await service.keep_house()


async def test_a_store_that_fails_while_it_is_watched_is_not_ready(store, agreed, service, monkeypatch):
    class Followed:
        issuers = None

        def follow(self, issuers):
            self.issuers = issuers

        def states(self):
            return ()

    def broken():
        raise StorageError("unreadable")

    key_sets = Followed()
    watch = Watch(service, store, key_sets)  # type: ignore[arg-type]  # a double
    with monkeypatch.context() as patch:
        patch.setattr(store, "manifests", broken)
        assert (await watch.parts())["store"] is not None
    assert key_sets.issuers is None
    assert (await watch.parts())["store"] is None
    assert key_sets.issuers


def test_only_a_thorough_opening_reads_the_whole_file(world, store, agreed, monkeypatch):
    def damaged(_self):
        raise StorageError("damaged")

    monkeypatch.setattr(Database, "check_integrity", damaged)
    with world.open() as again:
        again.pause("in an emergency")
    with pytest.raises(StorageError, match="damaged"):
        Store.open(world.home, clock=world.clock, thorough=True)


def keys(world) -> list[str]:
    return sorted(path.name for path in (world.root / "epochs").iterdir())


def test_the_key_of_an_abandoned_draft_is_destroyed_when_a_later_epoch_is_accepted(world, store, agreed):
    store.new_share(2)
    store.new_share(4)
    assert keys(world) == ["1.key", "2.key", "4.key"]
    world.open_epoch(store, previous=agreed, epoch=3, overlap_seconds=0)
    assert keys(world) == ["3.key", "4.key"]


def test_the_key_of_an_epoch_that_still_serves_is_kept(world, store, agreed):
    store.new_share(2)
    world.open_epoch(store, previous=agreed, epoch=2, overlap_seconds=600)
    assert keys(world) == ["1.key", "2.key"]
    world.clock.now += 10_000
    store.tidy()
    assert keys(world) == ["2.key"]


def test_after_a_restore_no_key_or_share_is_left_below_what_the_anchor_remembers(world, store, agreed):
    backup = world.copy_database("backup")
    kept = (world.root / "epochs" / "1.key").read_bytes()
    world.open_epoch(store, previous=agreed, epoch=2, overlap_seconds=0)
    store.close()
    world.restore_database(backup)
    (world.root / "epochs" / "1.key").write_bytes(kept)
    (world.root / "epochs" / "1.key").chmod(0o600)
    (world.root / "anchor").chmod(0o600)
    with world.open() as again:
        again.tidy()
        assert keys(world) == ["2.key"]
        with pytest.raises(CeremonyError, match="any more"):
            again.new_share(1)
