import os
import shutil
import sqlite3
import stat
import threading
from contextlib import closing

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from mcbn_broker.audit.chain import AuditKind, ChainHead
from mcbn_broker.errors import KeystoreError, NotReadyError, StorageError
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.release.challenges import IssuedChallenge
from mcbn_broker.release.consent import ConsentState
from mcbn_broker.storage import migrate
from mcbn_broker.storage.database import Database
from mcbn_broker.storage.schema import SCHEMA, metadata
from mcbn_broker.storage.store import Store


def raw(world) -> sqlite3.Connection:
    return sqlite3.connect(world.root / "broker.sqlite3", isolation_level=None)


def edit(world, statement: str, values: tuple[object, ...] = ()) -> None:
    with closing(raw(world)) as database:
        database.execute(statement, values)


def kinds(store) -> list[str]:
    return [one.record["kind"] for one in store.audit_tail(100)]


def test_a_new_store_is_private_paused_and_audited(world, store):
    assert store.opened.new_incarnation is None
    assert (store.consent().state, store.consent().sequence) == (ConsentState.PAUSED, 1)
    assert kinds(store) == ["initialised"]
    assert store.status().schema == SCHEMA
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in world.root.iterdir() if path.is_file()}
    assert set(modes.values()) == {0o600}
    assert {"broker.sqlite3", "anchor", "reserve"} <= set(modes)


def test_it_is_durable_as_it_says(world, store):
    with store.journal.read() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_a_store_is_made_once_and_has_to_be_made_first(world):
    with pytest.raises(NotReadyError, match="init"):
        world.open()
    world.initialise().close()
    with pytest.raises(NotReadyError, match="already"):
        world.initialise()
    (world.root / "broker.sqlite3").unlink()
    with pytest.raises(NotReadyError, match="already"):
        world.initialise()


def test_opening_again_changes_nothing(world, store):
    before = store.status()
    with world.open() as again:
        assert again.opened.new_incarnation is None
        assert again.status() == before


def test_many_processes_may_open_at_once(world, store):
    found = []

    def open_it():
        with world.open() as again:
            found.append(again.opened.new_incarnation)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number in range(20):
        store.pause(str(number))
    for thread in threads:
        thread.join()
    assert found == [None] * 8


# --- incarnations


def expect_new_life(world, why: str) -> Store:
    store = world.open()
    assert why in store.opened.new_incarnation
    assert store.consent().state is ConsentState.PAUSED
    assert why in store.consent().reason
    assert store.audit_tail(1)[0].record["kind"] == "incarnation"
    store.verify_audit()
    return store


def test_a_missing_database_begins_anew_paused_and_remembers_the_highest_epoch(world, store, agreed):
    before = store.status()
    store.close()
    for path in world.root.glob("broker.sqlite3*"):
        path.unlink()
    with expect_new_life(world, "missing") as again:
        assert again.status().incarnation != before.incarnation
        assert again.status().manifests == ()
        assert again.status().next_share_epoch == 2
        record = again.audit_tail(1)[0].record
        assert record["anchor_sequence"] == before.audit.sequence


def test_a_missing_anchor_begins_anew(world, store, agreed):
    (world.root / "anchor").unlink()
    expect_new_life(world, "anchor was missing").close()
    with world.open() as again:
        assert again.opened.new_incarnation is None


def test_a_restored_anchor_of_another_life_begins_anew(world, store, agreed):
    kept = (world.root / "anchor").read_bytes()
    (world.root / "anchor").unlink()
    expect_new_life(world, "anchor was missing").close()
    (world.root / "anchor").write_bytes(kept)
    expect_new_life(world, "another incarnation").close()


def test_a_rewritten_audit_begins_anew(world, store, agreed):
    last = store.chain_head().sequence
    store.close()
    edit(world, "UPDATE audit SET hash = ? WHERE sequence = ?", (b"x" * 32, last))
    with world.open() as again:
        assert f"differs from the anchor at record {last}" in again.opened.new_incarnation


def test_an_unreadable_anchor_fails_closed(world, store):
    (world.root / "anchor").write_bytes(bytes(8192))
    with pytest.raises(KeystoreError, match="unreadable"):
        world.open()


def test_a_crash_between_commit_and_anchor_is_no_new_life(world, store, monkeypatch):
    monkeypatch.setattr(store.home.anchor, "advance", lambda *_: None)
    store.pause("the anchor did not hear of this")
    with world.open() as again:
        assert again.opened.new_incarnation is None
        again.allow()
        again.verify_audit()


def test_a_crash_in_init_leaves_a_store_that_opens_paused(world, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mcbn_broker.keystore.anchor.Anchor.begin", crash)
    with pytest.raises(KeyboardInterrupt):
        world.initialise()
    monkeypatch.undo()
    expect_new_life(world, "anchor was missing").close()


def test_an_empty_database_file_of_an_unfinished_init_is_filled(world):
    (world.root / "broker.sqlite3").touch(0o600)
    with world.open() as store:
        assert store.opened.new_incarnation is None
        assert store.consent().state is ConsentState.PAUSED


def test_a_process_on_a_replaced_database_cannot_go_on(world, store, agreed):
    backup = world.copy_database("backup")
    world.restore_database(backup)
    (world.root / "anchor").unlink()
    expect_new_life(world, "anchor was missing").close()
    with pytest.raises(KeystoreError, match="restart the broker"):
        store.pause()


# --- what is refused


def test_a_damaged_database_is_refused_with_what_to_do(world, store, agreed):
    store.close()
    path = world.root / "broker.sqlite3"
    data = bytearray(path.read_bytes())
    assert len(data) > 8192
    data[4096:12288] = os.urandom(8192)
    path.write_bytes(data)
    with pytest.raises(StorageError, match="restore the newest backup"):
        world.open()


def test_a_file_that_is_no_database_is_refused(world, store):
    store.close()
    (world.root / "broker.sqlite3").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match="damaged"):
        world.open()


def test_a_database_that_others_can_read_is_refused(world, store):
    (world.root / "broker.sqlite3").chmod(0o644)
    with pytest.raises(KeystoreError, match="open to others"):
        world.open()


def test_a_newer_schema_is_refused(world, store):
    store.close()
    edit(world, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StorageError, match="newer"):
        world.open()


def test_another_participants_database_is_refused(world, store, tmp_path):
    home = Home.create(tmp_path / "bob", Identity("demo", "bob", "https://bob.example"), world.kek)
    store.close()
    (home.root / "broker.sqlite3").write_bytes((world.root / "broker.sqlite3").read_bytes())
    (home.root / "broker.sqlite3").chmod(0o600)
    with pytest.raises(StorageError, match="belongs to alice"):
        Store.open(home, clock=world.clock)


def test_a_database_in_a_folder_that_is_gone_is_an_error_of_ours(tmp_path):
    with pytest.raises(StorageError, match="cannot be opened"):
        Database(tmp_path / "nowhere" / "broker.sqlite3")


def test_a_database_that_another_program_locks_is_an_error_of_ours(world, store):
    with closing(raw(world)) as other:
        other.execute("BEGIN IMMEDIATE")
        with store.journal.read() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 1")
        with pytest.raises(StorageError, match="locked"):
            store.pause()
        other.execute("ROLLBACK")
    store.pause()


# --- schema


def test_the_migrations_make_the_tables_that_the_program_uses(world, store):
    script = ScriptDirectory(str(migrate._SCRIPTS))
    assert script.get_current_head() == SCHEMA
    with store.journal.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


# --- crashes


def copy_of(world, name: str) -> Home:
    """What a machine would find that lost its power now, as far as files were written."""
    target = world.root.parent / name
    shutil.copytree(world.root, target)
    return Home.open(target, world.kek)


def test_a_crash_before_the_commit_leaves_neither_record_nor_used_challenge(world, store, agreed):
    challenge = IssuedChallenge("x", world.clock.now + 100, b"c" * 32)
    before = store.chain_head()
    with store.journal.transaction() as transaction:
        assert transaction.spend(challenge)
        transaction.append(AuditKind.RELEASE, world.clock.now, {})
        transaction.flush()
        crashed = copy_of(world, "before")
        transaction._records.clear()
        transaction._spent.clear()
    with Store.open(crashed, clock=world.clock) as again:
        assert again.opened.new_incarnation is None
        assert again.chain_head() == before
        with again.journal.transaction() as transaction:
            assert transaction.spend(challenge)


def test_a_crash_after_the_commit_leaves_both_whatever_the_anchor_says(world, store, agreed, monkeypatch):
    challenge = IssuedChallenge("x", world.clock.now + 100, b"c" * 32)
    real, crashed = store.home.anchor.advance, []

    def crash_here(*arguments):
        crashed.append(copy_of(world, "after"))
        real(*arguments)

    monkeypatch.setattr(store.home.anchor, "advance", crash_here)
    with store.journal.transaction() as transaction:
        assert transaction.spend(challenge)
        entry = transaction.append(AuditKind.RELEASE, world.clock.now, {})
    with Store.open(crashed[0], clock=world.clock) as again:
        assert again.opened.new_incarnation is None
        assert again.verify_audit() == ChainHead(entry.sequence, entry.hash)
        with again.journal.transaction() as transaction:
            assert not transaction.spend(challenge)
