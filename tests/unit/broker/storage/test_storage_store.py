import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from mcbn_broker.errors import AuditError, CeremonyError, KeystoreError, NotReadyError, StorageError, UsageError
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.release.consent import ConsentState
from mcbn_broker.release.manifests import ManifestState
from mcbn_broker.storage.reserve import RESERVE_BYTES
from mcbn_broker.storage.store import REASON_CHARS, Store
from mcbn_protocol.errors import ManifestError, SignatureInvalidError
from mcbn_protocol.identifiers import Role
from mcbn_protocol.shares import CommitmentCard


def raw(world) -> sqlite3.Connection:
    return sqlite3.connect(world.root / "broker.sqlite3", isolation_level=None)


def edit(world, statement: str, values: tuple[object, ...] = ()) -> None:
    with closing(raw(world)) as database:
        database.execute(statement, values)


@pytest.fixture
def raw_database(world, store):
    """The store's database, for tests that look into it or change it behind its back."""
    with closing(raw(world)) as database:
        yield database


def last(store) -> dict:
    return store.audit_tail(1)[0].record


# --- shares


def test_a_share_is_made_once_for_each_epoch(world, store):
    card = store.new_share()
    assert card == store.new_share() == store.new_share(1)
    assert card.epoch == 1
    assert store.shares()[0].commitment == card.commitment
    assert store.shares()[0].held
    signed = card.sign(store.home.release_key, world.roster)
    assert CommitmentCard.parse(signed.to_bytes(), world.roster) == card
    assert [one.record["kind"] for one in store.audit_tail(9)] == ["initialised", "share_made"]


def test_a_share_whose_key_was_lost_before_acceptance_is_made_anew(store):
    card = store.new_share()
    store.home.epoch_keys.destroy(1)
    assert not store.shares()[0].held
    again = store.new_share()
    assert again.commitment != card.commitment
    assert len(store.shares()) == 1


def test_a_share_needs_roster_and_key_encryption_key(world, store, tmp_path):
    home = Home.create(tmp_path / "new", Identity("demo", "alice", "https://a.example"), world.kek)
    with Store.initialise(home, clock=world.clock) as fresh:
        with pytest.raises(NotReadyError, match="roster"):
            fresh.new_share()
        with pytest.raises(NotReadyError, match="roster"):
            fresh.audit_head()
    with (
        Store.open(Home.open(world.root, None), clock=world.clock) as keyless,
        pytest.raises(KeystoreError, match="--kek-file"),
    ):
        keyless.new_share()


def test_no_share_for_an_epoch_that_was_accepted(world, store, agreed):
    with pytest.raises(CeremonyError, match="the next one is 2"):
        store.new_share(1)
    assert store.new_share().epoch == 2


# --- manifests


def test_accepting_twice_changes_nothing(world, store, agreed):
    before = store.chain_head()
    assert store.accept_manifest(agreed.bundle) == agreed
    assert store.chain_head() == before
    assert [one.agreed for one in store.manifests()] == [agreed]


def test_a_manifest_that_someone_did_not_sign_is_refused(world, store):
    store.new_share()
    with pytest.raises(ManifestError, match="carol"):
        store.accept_manifest(world.bundle(world.manifest(store), signers=("alice", "bob")))
    world.consent_keys["carol"] = world.consent_keys["bob"]
    with pytest.raises(SignatureInvalidError):
        store.accept_manifest(world.bundle(world.manifest(store)))
    assert store.manifests() == ()


def test_a_manifest_without_our_share_or_with_another_commitment_is_refused(world, store):
    with pytest.raises(CeremonyError, match="share new"):
        store.accept_manifest(world.bundle(world.manifest(store)))
    store.new_share()
    manifest = world.manifest(store)
    other = replace(manifest, commitments={**manifest.commitments, "alice": b"x" * 32})
    with pytest.raises(CeremonyError, match="commitment of alice"):
        store.accept_manifest(world.bundle(other))
    store.home.epoch_keys.destroy(1)
    with pytest.raises(CeremonyError, match="share new"):
        store.accept_manifest(world.bundle(manifest))


def test_another_manifest_of_an_accepted_or_earlier_epoch_is_refused(world, store, agreed):
    with pytest.raises(CeremonyError, match="1 was accepted already"):
        store.accept_manifest(world.bundle(world.manifest(store, lease_seconds=200)))
    world.open_epoch(store, previous=agreed)
    with pytest.raises(CeremonyError, match="2 was accepted already"):
        store.accept_manifest(world.bundle(world.manifest(store, lease_seconds=200)))


def test_the_next_manifest_names_the_accepted_one(world, store, agreed):
    store.new_share()
    stranger = replace(agreed, hash=type(agreed.hash)(b"x" * 32))
    with pytest.raises(CeremonyError, match="--previous"):
        store.accept_manifest(world.bundle(world.manifest(store, epoch=2, previous=stranger)))


def test_an_epoch_that_was_given_up_can_be_skipped_and_leaves_no_overlap(world, store, agreed):
    given_up = replace(agreed, hash=type(agreed.hash)(b"x" * 32))
    world.open_epoch(store, epoch=3, previous=given_up, valid_from=world.clock.now + 10, overlap_seconds=600)
    states = [one.state for one in store.status().manifests]
    assert states == [ManifestState.CURRENT, ManifestState.UPCOMING]
    world.clock.now += 10
    states = [one.state for one in store.status().manifests]
    assert states == [ManifestState.SUPERSEDED, ManifestState.CURRENT]


def test_an_expired_manifest_is_refused_and_replaces_nothing(world, store, agreed):
    store.new_share()
    late = world.bundle(world.manifest(store, epoch=2, previous=agreed, valid_until=world.clock.now, overlap_seconds=0))
    with pytest.raises(CeremonyError, match="this manifest expired at 2030-03-17 17:46:40 UTC: draft the next epoch"):
        store.accept_manifest(late)
    assert [one.state for one in store.status().manifests] == [ManifestState.CURRENT]


def test_a_repeated_commitment_is_refused(world, store, agreed):
    store.new_share()
    manifest = world.manifest(store, epoch=2, previous=agreed)
    for used in ("bob", "carol"):
        repeated = {**manifest.commitments, "bob": agreed.manifest.commitments[used]}
        with pytest.raises(CeremonyError, match="bob repeats a commitment of epoch 1"):
            store.accept_manifest(world.bundle(replace(manifest, commitments=repeated)))


def test_a_participant_without_its_database_joins_at_a_new_epoch_only(world, store, agreed):
    second = world.open_epoch(store, previous=agreed)
    store.close()
    for path in world.root.glob("broker.sqlite3*"):
        path.unlink()
    with world.open() as again:
        with pytest.raises(CeremonyError, match="below 2"):
            again.accept_manifest(agreed.bundle)
        with pytest.raises(CeremonyError, match="no share was made"):
            again.accept_manifest(second.bundle)
        with pytest.raises(CeremonyError, match="any more"):
            again.new_share(1)
        third = world.open_epoch(again, previous=second)
        assert [one.epoch for one in again.status().manifests] == [3]
        assert third.manifest.epoch == 3


def test_an_altered_manifest_in_the_database_is_noticed(world, store, agreed):
    store.terms()
    edit(world, "UPDATE manifests SET bundle = replace(bundle, '300', '301')")
    edit(world, "UPDATE meta SET revision = revision + 1")
    with pytest.raises(StorageError, match="altered"):
        store.terms()


def test_a_share_of_another_epoch_in_the_database_is_noticed(world, store, agreed):
    world.open_epoch(store, previous=agreed)
    edit(world, "UPDATE shares SET sealed = (SELECT sealed FROM shares WHERE epoch = 2) WHERE epoch = 1")
    with pytest.raises(KeystoreError, match="does not open"):
        store.terms()


def test_terms_are_read_anew_only_when_they_changed(world, store, agreed):
    before = store.terms()
    assert store.terms() is before
    store.pause()
    after = store.terms()
    assert after.revision > before.revision
    assert after.shares[1] is before.shares[1]


def test_a_store_that_cannot_be_read_recovers_by_itself(world, store, agreed):
    before = store.terms()
    edit(world, "ALTER TABLE meta RENAME TO hidden")
    for _ in range(2):
        with pytest.raises(StorageError, match="no such table"):
            store.terms()
    edit(world, "ALTER TABLE hidden RENAME TO meta")
    assert store.terms() is before


# --- retiring


def test_a_superseded_epoch_is_retired_after_its_overlap_and_its_share_is_gone(world, store, agreed):
    world.open_epoch(store, previous=agreed, valid_from=world.clock.now, overlap_seconds=60)
    assert store.retire_superseded() == ()
    assert set(store.terms().shares) == {1, 2}
    world.clock.now += 60
    assert store.retire_superseded() == (1,)
    assert store.retire_superseded() == ()
    assert last(store) | {"time": 0, "previous": ""} == {
        "kind": "epoch_retired", "epoch": 1, "sequence": last(store)["sequence"], "time": 0, "previous": "",
    }  # fmt: skip
    assert set(store.terms().shares) == {2}
    assert [one.held for one in store.shares()] == [False, True]
    assert [one.retired for one in store.manifests()] == [True, False]


def test_accepting_retires_what_is_replaced_at_once(world, store, agreed):
    world.open_epoch(store, previous=agreed, overlap_seconds=0)
    assert [one.held for one in store.shares()] == [False, True]


def test_a_key_that_could_not_be_destroyed_is_destroyed_next_time(world, store, agreed, monkeypatch):
    real = store.home.epoch_keys.destroy

    def fails(_epoch):
        raise KeystoreError("read-only file system")

    monkeypatch.setattr(store.home.epoch_keys, "destroy", fails)
    world.open_epoch(store, previous=agreed, overlap_seconds=0)
    assert store.home.epoch_keys.has(1)
    assert set(store.terms().shares) == {2}
    monkeypatch.setattr(store.home.epoch_keys, "destroy", real)
    store.tidy()
    assert not store.home.epoch_keys.has(1)


def test_tidying_forgets_what_expired_and_keeps_used_challenges_an_hour_longer(world, store, raw_database):
    database = raw_database
    database.execute("INSERT INTO challenges_used VALUES (?, ?)", (b"a" * 32, world.clock.now))
    database.execute("INSERT INTO leases VALUES ('client', '1', ?)", (world.clock.now + 10,))
    world.clock.now += 10
    store.tidy()
    assert database.execute("SELECT count(*) FROM leases").fetchone() == (0,)
    assert database.execute("SELECT count(*) FROM challenges_used").fetchone() == (1,)
    world.clock.now += 3591
    store.tidy()
    assert database.execute("SELECT count(*) FROM challenges_used").fetchone() == (0,)


# --- consent


def test_each_decision_is_audited_with_its_reason(world, store):
    allowed = store.allow("the board agreed")
    assert store.consent() == allowed
    assert (last(store)["kind"], last(store)["reason"]) == ("consent_allowed", "the board agreed")
    world.clock.now += 5
    paused = store.pause()
    assert (paused.state, paused.since, paused.sequence) == (ConsentState.PAUSED, world.clock.now, 3)
    assert store.consent() == paused
    assert last(store)["kind"] == "consent_paused"


def test_a_decision_needs_no_key_encryption_key(world, store):
    with Store.open(Home.open(world.root, None), clock=world.clock) as keyless:
        keyless.allow()
        keyless.pause()
        keyless.verify_audit()
        assert keyless.status().consent.state is ConsentState.PAUSED


def test_a_reason_has_a_limit(store):
    store.allow("x" * REASON_CHARS)
    with pytest.raises(UsageError, match="shorten"):
        store.pause("x" * (REASON_CHARS + 1))


def test_a_pause_is_written_on_a_full_disk_from_the_reserve(world, store, monkeypatch):
    store.allow()
    reserve = world.root / "reserve"
    assert reserve.stat().st_blocks * 512 >= RESERVE_BYTES
    real = store.journal._database.write

    def write(*, wait):
        if reserve.exists():
            raise StorageError("the disk is full")
        return real(wait=wait)

    monkeypatch.setattr(store.journal._database, "write", write)
    with pytest.raises(StorageError):
        store.allow()
    assert store.pause("now").state is ConsentState.PAUSED
    assert store.consent().state is ConsentState.PAUSED
    monkeypatch.setattr(store.journal._database, "write", lambda **_: (_ for _ in ()).throw(StorageError("full")))
    with pytest.raises(StorageError):
        store.pause("again")
    with world.open():
        assert reserve.exists()


def test_without_room_for_a_reserve_the_store_still_opens(world, store, monkeypatch):
    (world.root / "reserve").unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with world.open() as again:
        again.allow()
    assert not (world.root / "reserve").exists()


# --- audit


def fill(store, count: int) -> None:
    for number in range(count):
        store.pause(f"reason {number}")


def bad_record(store, head: bytes | None = None) -> int:
    with pytest.raises(AuditError) as caught:
        store.verify_audit(head)
    return caught.value.sequence


def test_the_tail_is_the_end_oldest_first(store):
    fill(store, 5)
    assert [one.sequence for one in store.audit_tail(3)] == [4, 5, 6]
    assert store.verify_audit() == store.chain_head()


@pytest.mark.parametrize(
    ("damage", "first_bad"),
    [
        ("UPDATE audit SET record = replace(record, 'reason 3', 'reason 9') WHERE sequence = 5", 5),
        ("DELETE FROM audit WHERE sequence = 5", 5),
        ("UPDATE audit SET sequence = CASE sequence WHEN 4 THEN -7 ELSE sequence END WHERE sequence = 4", 1),
        ("DELETE FROM audit WHERE sequence > 6", 7),
    ],
)
def test_damage_is_named(world, store, damage, first_bad):
    fill(store, 8)
    edit(world, damage)
    assert bad_record(store) == first_bad


def test_a_reordering_is_named(store, raw_database):
    fill(store, 8)
    for change in ("SET sequence = 100 WHERE sequence = 4", "SET sequence = 4 WHERE sequence = 6"):
        raw_database.execute(f"UPDATE audit {change}")
    raw_database.execute("UPDATE audit SET sequence = 6 WHERE sequence = 100")
    assert bad_record(store) == 4


def test_a_truncation_that_took_the_anchor_along_is_found_by_an_earlier_signed_head(world, store, agreed):
    fill(store, 3)
    head = store.audit_head().sign(store.home.release_key).to_bytes()
    reached = store.chain_head().sequence
    store.close()
    edit(world, f"DELETE FROM audit WHERE sequence > {reached - 2}")  # noqa: S608  # a number of this test
    (world.root / "anchor").unlink()
    with world.open() as again:
        assert again.opened.new_incarnation is not None
        assert bad_record(again, head) == reached - 1 or bad_record(again, head) == reached


# --- status


def test_status_shows_where_the_broker_stands(world, store, agreed):
    world.open_epoch(store, previous=agreed, valid_from=world.clock.now + 100)
    status = store.status()
    assert [(one.epoch, one.state) for one in status.manifests] == [
        (1, ManifestState.CURRENT),
        (2, ManifestState.UPCOMING),
    ]
    assert status.manifests[0].hash == agreed.hash
    assert not status.manifests[0].simulated
    assert status.manifests[0].insecure_terms == ()
    assert status.next_share_epoch == 3
    assert status.leases == {Role.CLIENT: 0, Role.SERVER: 0}
    world.clock.now += 100
    assert [one.state for one in store.status().manifests] == [ManifestState.PREVIOUS, ManifestState.CURRENT]
    world.clock.now += 600
    assert store.status().manifests[0].state is ManifestState.SUPERSEDED
    world.clock.now = agreed.manifest.valid_until
    assert store.status().manifests[1].state is ManifestState.EXPIRED
