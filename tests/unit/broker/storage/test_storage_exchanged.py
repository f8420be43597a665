"""An older copy of the database under a running broker, and an anchor that has to remember the highest epoch."""

import shutil
import sqlite3
from dataclasses import replace

import pytest

from mcbn_broker.errors import Refused, StorageError
from mcbn_broker.keystore.anchor import Anchor
from tests.unit.broker.conftest import NOW


def restore_live(source: sqlite3.Connection, world) -> None:
    """Copy a database over the one that is open, as `sqlite3 .restore` does."""
    with sqlite3.connect(world.root / "broker.sqlite3") as live:
        source.backup(live)
    live.close()


@pytest.fixture
def older(world, store, agreed):
    """A copy of the database with consent allowed, from before what the test does."""
    copy = sqlite3.connect(":memory:")
    with sqlite3.connect(world.root / "broker.sqlite3") as live:
        live.backup(copy)
    live.close()
    yield copy
    copy.close()


async def test_an_older_copy_under_a_running_broker_neither_undoes_a_pause_nor_revives_a_challenge(
    world, service, store, agreed, older
):
    workload = world.workload(service, agreed)
    request = workload.request(await workload.challenge())
    await workload.send(request)
    store.pause("stop")
    restore_live(older, world)
    for ask in (workload.send(request), workload.ask()):
        with pytest.raises(Refused) as refused:
            await ask
        assert refused.value.reason.code == "storage_unavailable"
    readiness = await service.readiness()
    assert not readiness.store
    with world.open() as again:
        assert "older copy" in again.opened.new_incarnation


def test_an_older_copy_is_noticed_by_the_transaction_alone(world, store, agreed, older):
    with world.open() as other:  # its pause is the last word, and `store` has not seen it
        other.pause("stop")
    restore_live(older, world)
    with pytest.raises(StorageError, match=r"older copy.*restart the broker"), store.journal.transaction():
        pytest.fail("the transaction began")


def test_a_rewritten_record_under_a_running_broker_stops_the_next_transaction(world, store, agreed):
    last = store.chain_head().sequence
    with sqlite3.connect(world.root / "broker.sqlite3") as live:
        live.execute("UPDATE audit SET hash = ? WHERE sequence = ?", (b"x" * 32, last))
    live.close()
    with pytest.raises(StorageError, match=f"differs from the anchor at record {last}"):
        store.pause()


def test_a_new_incarnation_by_another_process_is_noticed_by_whoever_reads_the_terms(world, store, agreed):
    (world.root / "anchor").unlink()
    world.open().close()
    with pytest.raises(StorageError, match="new incarnation"):
        store.terms()


def accept_second_epoch(world, store, agreed) -> None:
    store.new_share(2)
    store.accept_manifest(world.bundle(world.manifest(store, epoch=2, previous=agreed, overlap_seconds=0)))


def test_a_crash_between_commit_and_anchor_does_not_lose_the_accepted_epoch(world, store, agreed, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    store.new_share(2)
    bundle = world.bundle(world.manifest(store, epoch=2, previous=agreed, overlap_seconds=0))
    with monkeypatch.context() as patch:
        patch.setattr(Anchor, "advance", killed)
        with pytest.raises(Killed):
            store.accept_manifest(bundle)
    assert world.home.anchor.read().epoch == 1
    with world.open():
        assert world.home.anchor.read().epoch == 2


def test_another_process_between_commit_and_anchor_does_not_lose_the_accepted_epoch(world, store, agreed, monkeypatch):
    advance = Anchor.advance

    def late(self, *arguments):
        monkeypatch.setattr(Anchor, "advance", advance)
        with world.open() as other:
            other.allow("a record of another process")
        advance(self, *arguments)

    store.new_share(2)
    bundle = world.bundle(world.manifest(store, epoch=2, previous=agreed, overlap_seconds=0))
    monkeypatch.setattr(Anchor, "advance", late)
    store.accept_manifest(bundle)
    assert world.home.anchor.read().epoch == 2


def test_an_epoch_that_was_revoked_stays_so_after_a_crash_and_a_restore(world, store, agreed, monkeypatch):
    backup = world.copy_database("backup")
    keys = shutil.copytree(world.root / "epochs", world.root.parent / "keys")
    monkeypatch.setattr(Anchor, "advance", lambda *_: None)
    accept_second_epoch(world, store, agreed)
    monkeypatch.undo()
    store.close()
    world.open().close()
    world.restore_database(backup)
    shutil.rmtree(world.root / "epochs")
    shutil.copytree(keys, world.root / "epochs")
    with world.open() as again:
        again.allow()
        assert again.terms().agreed == ()


def test_a_lost_anchor_remembers_the_epoch_of_the_database(world, store, agreed):
    accept_second_epoch(world, store, agreed)
    store.close()
    (world.root / "anchor").unlink()
    world.open().close()
    assert world.home.anchor.read().epoch == 2


def test_an_epoch_that_is_still_served_survives_a_new_incarnation_that_knows_the_one_after_it(world, store, agreed):
    store.new_share(2)
    later = world.manifest(store, epoch=2, previous=agreed, valid_from=NOW + 1000)
    store.accept_manifest(world.bundle(later))
    store.close()
    (world.root / "anchor").unlink()
    world.open().close()
    anchored = world.home.anchor.read()
    world.home.anchor.begin(replace(anchored, incarnation=bytes(len(anchored.incarnation))))
    with world.open() as again:
        assert again.opened.new_incarnation is not None
        assert [one.epoch for one in again.terms().manifests] == [1, 2]
        again.tidy()
        assert set(again.terms().shares) == {1, 2}


def test_an_epoch_that_the_anchor_alone_knows_supersedes_all_below_it(world, store, agreed):
    store.close()
    anchored = world.home.anchor.read()
    world.home.anchor.begin(replace(anchored, incarnation=bytes(len(anchored.incarnation)), epoch=2))
    with world.open() as again:
        assert again.terms().manifests == ()


def test_an_older_anchor_lowers_nothing(world, store, agreed):
    store.close()
    anchored = world.home.anchor.read()
    world.home.anchor.begin(replace(anchored, incarnation=bytes(len(anchored.incarnation)), epoch=3))
    world.open().close()
    world.home.anchor.begin(replace(anchored, incarnation=bytes(len(anchored.incarnation)), epoch=2))
    with world.open() as again:
        assert again.opened.new_incarnation is not None
        assert again.status().next_share_epoch == 4
    assert world.home.anchor.read().epoch == 3
