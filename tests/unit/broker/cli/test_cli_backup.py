"""`backup` and `restore`: what comes back, in which state, and what is refused."""

import errno
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from mcbn_broker.backup import restore as restore_module
from mcbn_broker.backup.archive import pack
from mcbn_broker.backup.envelope import CHUNK_BYTES, OpeningStream, SealingStream
from mcbn_broker.backup.errors import BackupError
from mcbn_broker.backup.file import BackupFile
from mcbn_broker.backup.staging import staging
from mcbn_broker.ceremony.passphrase import Passphrase
from mcbn_broker.errors import Refused, UsageError
from mcbn_broker.keystore.home import Home
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.serve_lock import serve_lock
from mcbn_broker.release.consent import ConsentState
from mcbn_broker.storage.store import Store
from mcbn_protocol.manifest import AgreedManifest
from tests.unit.broker.conftest import NOW

WORDS = "correct horse battery staple"


@pytest.fixture
def site(world, command, tmp_path, monkeypatch):
    """Give `site("backup", ...)`: the command on Alice's data directory, with her keys."""
    for name, text in (("passphrase", WORDS), ("kek", "")):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(text)
    (tmp_path / "kek").write_bytes(world.kek.reveal())
    monkeypatch.setattr("mcbn_broker.cli.backup.now", world.clock)
    monkeypatch.delenv("MCBN_KEK", raising=False)

    def run(name, *words, root=world.root, kek="kek", passphrase="passphrase"):
        options = ["--data-dir", root, "--passphrase-file", tmp_path / passphrase]
        if name == "restore":
            options += ["--kek-file", tmp_path / kek]
        return command(name, *words, *options)

    return run


@pytest.fixture
def backup(site, agreed, tmp_path) -> Path:
    """A backup of epoch 1, with consent allowed."""
    made = site("backup", "--out", tmp_path / "a.backup")
    assert made.status == 0, made.err
    return tmp_path / "a.backup"


def destroy(world) -> None:
    shutil.rmtree(world.root)


def words(agreed, kind: str = "") -> str:
    return f"restore {kind}epoch {agreed.manifest.epoch} {agreed.hash.hex()}"


def bundle_of(agreed, tmp_path, name: str = "bundle.json") -> Path:
    (tmp_path / name).write_bytes(agreed.bundle)
    return tmp_path / name


# --- the way there and back


async def test_a_broker_comes_back_paused_in_a_new_life_and_releases_once_allowed(world, store, agreed, backup, site):
    tmp_path = world.root.parent
    before = store.status()
    share = store.terms().shares[1]
    old_challenge = (tmp_path / "alice" / "challenge.key").read_bytes()
    store.close()
    destroy(world)
    done = site("restore", backup, "--known", bundle_of(agreed, tmp_path), "--confirm", words(agreed))
    assert done.status == 0, done.err
    assert "Consent is paused" in done.err
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (world.root, *world.root.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    with world.open() as again:
        assert again.opened.new_incarnation is None
        assert again.consent().state is ConsentState.PAUSED
        assert again.status().incarnation != before.incarnation
        assert again.audit_tail(1)[0].record["kind"] == "incarnation"
        assert again.home.challenge_key.reveal() not in old_challenge
        again.verify_audit()
        service = world.service(again)
        with pytest.raises(Refused) as refused:
            await world.workload(service, agreed).ask()
        assert refused.value.reason.code == "consent_paused"
        again.allow()
        released = await world.workload(service, agreed).ask()
        assert released.payload["epoch"] == 1
        assert again.terms().shares[1] == share
        await service.aclose()


def test_a_head_that_was_made_before_the_backup_is_in_it(world, store, agreed, site, command):
    """The page's order, beside a `serve` that writes in between; and the backup itself writes no record."""
    tmp_path = world.root.parent
    key = ("--data-dir", world.root, "--kek-file", tmp_path / "kek")
    assert command("audit", "head", "--out", tmp_path / "head.json", *key).status == 0
    store.pause("between the two")
    before = store.chain_head()
    assert site("backup", "--out", tmp_path / "b").status == 0
    assert store.chain_head() == before
    store.close()
    destroy(world)
    done = site("restore", tmp_path / "b", "--known", tmp_path / "head.json", "--confirm", words(agreed))
    assert done.status == 0, done.err
    assert "WARNING" not in done.err


def test_the_file_shows_nothing_and_holds_neither_kek_nor_challenge_key(world, backup, tmp_path):
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    data = backup.read_bytes()
    assert b"alice" not in data
    assert b"SQLite" not in data
    with tarfile.open(fileobj=io.BytesIO(plaintext(backup))) as archive:
        names = set(archive.getnames())
        files = [archive.extractfile(one) for one in archive]
        content = b"".join(one.read() for one in files if one is not None)
    assert names == {
        *("backup.json", "broker.json", "broker.sqlite3", "consent-key.public", "release.key", "roster.json"),
        "epochs/1.key",
    }
    assert world.kek.reveal() not in content
    assert not list(world.root.glob(".backup-*"))


def test_epoch_keys_can_be_left_out_and_retired_ones_never_go_along(world, store, agreed, site, tmp_path):
    again = world.open_epoch(store, previous=agreed)
    world.clock.now += 10_000
    store.tidy()
    store.new_share()
    (world.root / "epochs" / "1.key").write_bytes(b"as if it could not be destroyed")
    assert site("backup", "--out", tmp_path / "b").status == 0
    assert epoch_keys(tmp_path / "b") == {"epochs/2.key", "epochs/3.key"}
    assert site("backup", "--out", tmp_path / "c", "--without-epoch-keys").status == 0
    assert epoch_keys(tmp_path / "c") == set()
    store.close()
    destroy(world)
    done = site("restore", tmp_path / "c", "--confirm", words(again, "unchecked "))
    assert done.status == 0, done.err
    with world.open() as restored:
        assert restored.terms().shares == {}
        assert restored.status().next_share_epoch == 3


def plaintext(path: Path) -> bytes:
    with path.open("rb") as file:
        opened = OpeningStream(file, Passphrase.from_text(WORDS))
        data = opened.read(10**9)
        opened.finish()
    return data


def epoch_keys(path: Path) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(plaintext(path))) as archive:
        return {name for name in archive.getnames() if name.startswith("epochs/")}


# --- older ones


def test_a_current_backup_brings_back_the_epoch_in_force_and_the_one_to_come(world, store, agreed, site, tmp_path):
    store.new_share(2)
    later = world.manifest(store, epoch=2, previous=agreed, valid_from=NOW + 1000)
    store.accept_manifest(world.bundle(later))
    store.close()
    assert site("backup", "--out", tmp_path / "b").status == 0
    newest = AgreedManifest.parse(world.bundle(later), world.roster)
    done = site("restore", tmp_path / "b", "--replace", "--confirm", words(newest))
    assert done.status == 0, done.err
    with world.open() as restored:
        assert [one.epoch for one in restored.terms().manifests] == [1, 2]
        restored.tidy()
        assert set(restored.terms().shares) == {1, 2}


def test_an_older_backup_over_a_newer_broker_is_refused_until_it_is_named(world, store, agreed, backup, site):
    world.open_epoch(store, previous=agreed)
    store.close()
    refused = site("restore", backup, "--replace", "--confirm", words(agreed))
    assert refused.status == 4
    assert "its highest epoch is 1, while epoch 2 is known" in refused.err
    assert f'the words are "{words(agreed, "older ")}"' in refused.err
    with world.open() as untouched:
        assert untouched.opened.new_incarnation is None
    done = site("restore", backup, "--replace", "--confirm", words(agreed, "older "))
    assert done.status == 0, done.err
    (aside,) = world.root.parent.glob("alice.replaced-*")
    assert (aside / "broker.sqlite3").exists()
    with world.open() as restored:
        assert restored.consent().state is ConsentState.PAUSED
        assert restored.terms().manifests == ()
        assert restored.status().next_share_epoch == 3


def test_a_restore_that_was_killed_between_its_two_moves_forgets_nothing(world, store, agreed, backup, site):
    """What was moved aside last still counts; an older one, another broker's and what is no broker do not."""
    ahead, parent = world.open_epoch(store, previous=agreed), world.root.parent
    store.close()
    shutil.copytree(world.root, parent / "alice.replaced-7")
    (parent / "alice.replaced-7" / "anchor").write_bytes(b"unreadable, and of no account")
    world.root.rename(parent / "alice.replaced-10")
    (parent / "alice.replaced-11").mkdir()
    shutil.copytree(parent / "alice.replaced-10", parent / "alice.replaced-copy")
    refused = site("restore", backup, "--confirm", words(agreed, "unchecked "))
    assert (refused.status, "its highest epoch is 1, while epoch 2 is known" in refused.err) == (4, True)
    (shown,) = [line for line in refused.err.splitlines() if "the data directory moved aside" in line]
    assert "epoch 2" in shown
    assert not world.root.exists()
    done = site("restore", backup, "--confirm", words(agreed, "older "))
    assert done.status == 0, done.err
    with world.open() as restored:
        assert restored.terms().manifests == ()
        assert restored.status().next_share_epoch == ahead.manifest.epoch + 1


def test_another_brokers_directory_that_was_moved_aside_is_named(world, store, agreed, backup, site):
    store.close()
    destroy(world)
    Home.create(world.root.parent / "alice.replaced-1", Identity("demo", "bob", "https://bob.example"), world.kek)
    refused = site("restore", backup, "--confirm", words(agreed, "unchecked "))
    assert (refused.status, "alice.replaced-1 is the broker of bob" in refused.err) == (4, True)


def test_a_bundle_or_a_head_from_elsewhere_shows_that_a_backup_is_older(world, store, agreed, backup, site):
    tmp_path = world.root.parent
    newer = world.open_epoch(store, previous=agreed)
    (tmp_path / "head.json").write_bytes(store.audit_head().sign(store.home.release_key).to_bytes())
    store.close()
    destroy(world)
    for known, why in ((bundle_of(newer, tmp_path), "epoch 2 is known"), (tmp_path / "head.json", "while record")):
        refused = site("restore", backup, "--known", known, "--confirm", words(agreed))
        assert refused.status == 4
        assert why in refused.err
        assert not world.root.exists()


async def test_a_release_from_elsewhere_says_which_epoch_it_is_of(world, store, agreed, backup, site):
    tmp_path = world.root.parent
    service = world.service(store)
    release = await world.workload(service, world.open_epoch(store, previous=agreed)).ask()
    (tmp_path / "release.json").write_bytes(release.to_bytes())
    await service.aclose()
    store.close()
    destroy(world)
    done = site("restore", backup, "--known", tmp_path / "release.json", "--confirm", words(agreed, "older "))
    assert done.status == 0, done.err
    assert "its highest epoch is 1, while epoch 2 is known" in done.err
    with world.open() as restored:
        assert restored.terms().manifests == ()
        assert restored.status().next_share_epoch == 3


@pytest.mark.parametrize("name", ["policy.toml", "broker.toml"])
def test_another_policy_or_other_settings_come_back_only_by_name(world, store, agreed, site, name):
    tmp_path, edited = world.root.parent, world.root / name
    if edited.exists():
        edited.unlink()
    assert site("backup", "--out", tmp_path / "b").status == 0
    edited.touch(0o600)
    edited.write_text("# stricter by now\n")
    store.close()
    refused = site("restore", tmp_path / "b", "--replace", "--confirm", words(agreed))
    assert refused.status == 4
    assert f"CHANGED: its {name} has the SHA-256 none" in refused.err
    done = site("restore", tmp_path / "b", "--replace", "--confirm", words(agreed, "changed "))
    assert done.status == 0, done.err


def test_a_broker_that_goes_on_while_somebody_thinks_is_not_replaced(world, agreed, backup, site, monkeypatch):

    def think(*_arguments, **_named):
        with world.open() as meanwhile:
            meanwhile.pause("in the meantime")
        return words(agreed)

    monkeypatch.setattr("mcbn_broker.cli.backup.ask_words", think)
    refused = site("restore", backup, "--replace")
    assert (refused.status, "has gone on since" in refused.err) == (4, True)
    assert not list(world.root.parent.glob("alice.replaced-*"))


def test_a_broker_that_goes_on_while_its_backup_is_verified_is_not_replaced(world, agreed, backup, site, monkeypatch):
    """Verifying a large audit takes long; whoever pauses meanwhile has paused."""
    begin = restore_module._begin

    def begin_slowly(*arguments, **named):
        begin(*arguments, **named)
        with world.open() as meanwhile:
            meanwhile.pause("in the meantime")

    monkeypatch.setattr(restore_module, "_begin", begin_slowly)
    refused = site("restore", backup, "--replace", "--confirm", words(agreed))
    assert (refused.status, "has gone on since" in refused.err) == (4, True)
    with world.open() as untouched:
        assert untouched.consent().reason == "in the meantime"
    assert not list(world.root.parent.glob("alice.replaced-*"))


def test_a_killed_backup_leaves_no_key_and_the_next_run_clears_it_away(world, store, agreed, site, tmp_path):
    program = (
        "import os, signal, sys\n"
        "from mcbn_broker.backup import snapshot\n"
        "from mcbn_broker.__main__ import main\n"
        "number = getattr(signal, sys.argv.pop(1))\n"
        "snapshot.pack = lambda *_: os.kill(os.getpid(), number)\n"
        "main()\n"
    )
    options = ["--out", tmp_path / "b", "--data-dir", world.root, "--passphrase-file", tmp_path / "passphrase"]
    site("backup", "--out", tmp_path / "first")  # so that the passphrase's file is there
    for name, status, left in (("SIGTERM", 128 + signal.SIGTERM, 0), ("SIGKILL", -signal.SIGKILL, 1)):
        killed = subprocess.run(
            [sys.executable, "-c", program, name, "backup", *map(str, options)], capture_output=True, check=False
        )
        assert killed.returncode == status, killed.stderr
        folders = list(world.root.glob(".backup-*"))
        assert len(folders) == left
        assert [path for folder in folders for path in folder.rglob("*.key") if path.name != "release.key"] == []
    assert site("backup", "--out", tmp_path / "b").status == 0
    assert list(world.root.glob(".backup-*")) == []


def test_a_backup_leaves_another_ones_folder_alone(world, backup, site, tmp_path):
    with staging(".backup-", world.root) as other:
        assert site("backup", "--out", tmp_path / "second").status == 0
        assert other.exists()
    assert not other.exists()


def test_a_head_that_is_newer_than_what_was_restored_is_said_to_be_so(world, store, agreed, site, command):
    tmp_path = world.root.parent
    assert site("backup", "--out", tmp_path / "b").status == 0
    heads = tmp_path / "the first record that is gone", tmp_path / "one that is not reached"
    for path in heads:
        store.pause("after the backup")
        path.write_bytes(store.audit_head().sign(store.home.release_key).to_bytes())
    store.close()
    destroy(world)
    assert site("restore", tmp_path / "b", "--confirm", words(agreed, "unchecked ")).status == 0
    for path in heads:
        failed = command("audit", "verify", "--head", path, "--data-dir", world.root)
        assert (failed.status, "or a backup older than this head was restored" in failed.err) == (5, True)


def test_a_file_that_is_to_be_known_is_read_before_the_passphrase_is_asked_for(backup, site, tmp_path):
    refused = site("restore", backup, "--known", tmp_path / "nope", root=tmp_path / "new", passphrase="absent")
    assert (refused.status, f"cannot read {tmp_path}/nope" in refused.err) == (2, True)


@pytest.mark.parametrize("content", [WORDS.encode(), b"{}", b""], ids=["text", "another object", "nothing"])
def test_what_is_known_is_a_bundle_or_a_head(backup, site, tmp_path, content):
    (tmp_path / "pp").write_bytes(content)
    refused = site("restore", backup, "--known", tmp_path / "pp", root=tmp_path / "new")
    assert refused.status == 4
    assert f"{tmp_path}/pp: " in refused.err
    assert "--known takes a bundle or a signed head" in refused.err


def test_a_signed_document_of_another_kind_is_not_known(world, store, backup, site):
    tmp_path = world.root.parent
    (tmp_path / "card").write_bytes(store.new_share().sign(store.home.release_key, store.home.roster()).to_bytes())
    refused = site("restore", backup, "--known", tmp_path / "card", root=tmp_path / "new")
    assert (refused.status, "--known takes a bundle or a signed head" in refused.err) == (4, True)


def test_what_is_known_twice_is_said_once_and_apart_from_the_data_directory_that_is_there(
    world, store, agreed, backup, site
):
    tmp_path = world.root.parent
    store.pause("after the backup")
    head = store.chain_head().sequence
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(store.audit_head().sign(store.home.release_key).to_bytes())
    store.close()
    shown = site("restore", backup, "--replace", "--known", tmp_path / "one", "--known", tmp_path / "two").err
    assert shown.count("OLDER THAN WHAT IS KNOWN") == 1
    rows = {line[:36].strip(): line[36:].strip() for line in shown.splitlines()}
    assert rows["the data directory that is there"] == f"epoch 1, record {head}"
    assert rows["known from elsewhere"] == f"record {head}"
    destroy(world)
    gone = site("restore", backup).err
    assert "the data directory that is there" not in gone
    assert "nothing" in next(line for line in gone.splitlines() if "known from elsewhere" in line)


def test_a_backup_of_another_history_is_refused(world, store, agreed, backup, site):
    tmp_path = world.root.parent
    fork = tmp_path / "fork"
    shutil.copytree(world.root, fork)
    with Store.open(Home.open(fork, world.kek), clock=world.clock) as other:
        other.pause("in another life")
        (tmp_path / "head.json").write_bytes(other.audit_head().sign(other.home.release_key).to_bytes())
    store.pause("in this life")
    assert site("backup", "--out", tmp_path / "b").status == 0
    store.close()
    destroy(world)
    refused = site("restore", tmp_path / "b", "--known", tmp_path / "head.json", "--confirm", words(agreed))
    assert refused.status == 4
    assert "another record" in refused.err


def test_where_nothing_is_known_the_words_say_so_and_a_terminal_is_needed_without_them(
    world, store, agreed, backup, site
):
    store.close()
    destroy(world)
    asked = site("restore", backup)
    assert asked.status == 2
    assert f'no terminal: give --confirm "{words(agreed, "unchecked ")}"' in asked.err
    assert "ask another participant" in asked.err
    assert site("restore", backup, "--confirm", words(agreed)).status == 4
    assert not world.root.exists()
    assert site("restore", backup, "--confirm", words(agreed, "unchecked ")).status == 0


# --- places


def test_a_live_broker_is_not_replaced(world, store, agreed, backup, site):
    with serve_lock(world.root):
        refused = site("restore", backup, "--replace", "--confirm", words(agreed))
    assert refused.status == 3
    assert "another serve runs" in refused.err
    assert store.consent().state is ConsentState.ALLOWED


def test_whether_there_is_a_place_is_said_before_the_passphrase_is_asked_for(world, store, agreed, backup, site):
    (world.root.parent / "file").touch()
    with serve_lock(world.root):
        served = site("restore", backup, "--replace", passphrase="absent")
    assert (served.status, "another serve runs" in served.err) == (3, True)
    there = site("restore", backup, passphrase="absent")
    assert (there.status, "give --replace" in there.err) == (3, True)
    odd = site("restore", backup, passphrase="absent", root=world.root.parent / "file")
    assert (odd.status, "no broker's data directory" in odd.err) == (2, True)


def test_a_broker_that_starts_while_somebody_thinks_is_not_replaced(world, agreed, backup, site, monkeypatch):
    with ExitStack() as running:

        def think(*_arguments, **_named):
            running.enter_context(serve_lock(world.root))
            return words(agreed)

        monkeypatch.setattr("mcbn_broker.cli.backup.ask_words", think)
        refused = site("restore", backup, "--replace")
    assert (refused.status, "another serve runs" in refused.err) == (3, True)


def test_a_folder_is_replaced_only_if_it_is_this_brokers_and_one_says_so(world, store, agreed, backup, site):
    tmp_path = world.root.parent
    refused = site("restore", backup, "--confirm", words(agreed))
    assert (refused.status, "--replace" in refused.err) == (3, True)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").touch()
    refused = site("restore", backup, "--replace", "--confirm", words(agreed, "unchecked "), root=other)
    assert (refused.status, "not empty" in refused.err) == (2, True)
    bob = Home.create(tmp_path / "bob", Identity("demo", "bob", "https://bob.example"), world.kek)
    refused = site("restore", backup, "--replace", "--confirm", words(agreed), root=bob.root)
    assert (refused.status, "the broker of bob" in refused.err) == (4, True)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert site("restore", backup, "--confirm", words(agreed, "unchecked "), root=empty).status == 0
    assert not list(tmp_path.glob(".*restoring*"))


def test_a_backup_is_not_written_over_another_file(backup, site):
    before = backup.read_bytes()
    assert site("backup", "--out", backup).status == 2
    assert backup.read_bytes() == before
    assert site("backup", "--out", backup, "--force").status == 0
    assert site("backup", "--out", backup.parent / "nowhere" / "b").status == 2


# --- what is no backup


def test_a_backup_does_not_go_where_it_is_lost_with_the_rest(world, store, site):
    refused = site("backup", "--out", world.root / "alice.backup")
    assert (refused.status, "a backup is lost there" in refused.err) == (2, True)
    assert not (world.root / "alice.backup").exists()


def test_a_backup_that_is_not_there_is_named_before_the_passphrase_is_asked_for(site, tmp_path):
    refused = site("restore", tmp_path / "nope.backup", root=tmp_path / "new", passphrase="absent")
    assert refused.status == 2
    assert f"cannot read {tmp_path}/nope.backup: No such file or directory" in refused.err
    assert "restoring" not in refused.err


def test_a_file_that_is_no_backup_is_named(site, tmp_path):
    (tmp_path / "thesis.pdf").write_bytes(b"%PDF-1.7")
    refused = site("restore", tmp_path / "thesis.pdf", root=tmp_path / "new")
    assert refused.status == 4
    assert f"{tmp_path}/thesis.pdf: this is no backup that mcbn-broker made" in refused.err


def test_a_full_disk_is_not_the_backups_fault(backup, site, tmp_path, monkeypatch):
    def full(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mcbn_broker.backup.restore.unpack", full)
    refused = site("restore", backup, root=tmp_path / "new")
    assert refused.status == 2
    assert f"cannot unpack {backup} in {tmp_path}: No space left on device" in refused.err
    assert "restoring" not in refused.err


def test_a_backup_whose_medium_fails_is_named():
    class Failing(io.BytesIO):
        def read(self, size=-1, /):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(UsageError, match=r"cannot read a\.backup: Input/output error"):
        BackupFile(Path("a.backup"), Failing()).read(1)


def test_another_passphrase_opens_nothing(world, backup, site, tmp_path):
    (tmp_path / "other").touch(0o600)
    (tmp_path / "other").write_text("another passphrase")
    refused = site("restore", backup, passphrase="other", root=tmp_path / "new")
    assert (refused.status, "does not open the backup" in refused.err) == (4, True)


def test_another_key_encryption_key_opens_nothing(world, agreed, backup, site, tmp_path):
    (tmp_path / "kek2").touch(0o600)
    (tmp_path / "kek2").write_bytes(os.urandom(32))
    refused = site("restore", backup, kek="kek2", root=tmp_path / "new")
    assert refused.status == 7
    assert "this key-encryption key is not the one of the backup: give the --kek-file (or --kek)" in refused.err
    assert "restoring" not in refused.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("where", [0, 14, 20, 60, 150, 70_000, -1])
def test_a_flipped_bit_is_noticed(backup, site, tmp_path, where):
    data = bytearray(backup.read_bytes())
    data[where] ^= 1
    backup.write_bytes(data)
    refused = site("restore", backup, root=tmp_path / "new")
    assert refused.status == 4, refused.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("length", [0, 10, 18, 100, CHUNK_BYTES, -1])
def test_a_cut_off_file_is_noticed(backup, site, tmp_path, length):
    backup.write_bytes(backup.read_bytes()[:length])
    assert site("restore", backup, root=tmp_path / "new").status == 4
    assert not (tmp_path / "new").exists()


def test_chunks_cannot_be_left_out_exchanged_or_added(tmp_path):
    out = io.BytesIO()
    stream = SealingStream(out, Passphrase.from_text(WORDS), os.urandom)
    stream.write(os.urandom(3 * CHUNK_BYTES))
    stream.finish()
    sealed, size = out.getvalue(), CHUNK_BYTES + 16
    header, chunks = sealed[: -3 * size], [sealed[-3 * size :][i * size :][:size] for i in range(3)]
    assert len(header) < 200
    for order in ([0, 1], [0, 2], [1, 0, 2], [0, 1, 2, 2], [0, 0, 1, 2]):
        opened = OpeningStream(io.BytesIO(header + b"".join(chunks[i] for i in order)), Passphrase.from_text(WORDS))
        with pytest.raises(BackupError):
            opened.finish()


def sealed_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with path.open("wb") as file:
        stream = SealingStream(file, Passphrase.from_text(WORDS), os.urandom)
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as archive:
            for info, data in members:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        stream.write(plain.getvalue())
        stream.finish()
    return path


def _link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


STRANGE = {
    "outside": [(tarfile.TarInfo("../evil"), b"x")],
    "absolute": [(tarfile.TarInfo("/tmp/evil"), b"x")],
    "unknown name": [(tarfile.TarInfo("challenge.key"), b"x")],
    "symbolic link": [(_link("broker.json", tarfile.SYMTYPE), b"")],
    "hard link": [(_link("broker.json", tarfile.LNKTYPE), b"")],
    "device": [(_link("broker.json", tarfile.CHRTYPE), b"")],
    "twice": [(tarfile.TarInfo("broker.json"), b"x"), (tarfile.TarInfo("broker.json"), b"y")],
    "lacking": [(tarfile.TarInfo("broker.json"), b"x")],
}


@pytest.mark.parametrize("members", STRANGE.values(), ids=STRANGE)
def test_content_that_no_backup_has_is_refused(world, site, tmp_path, members):
    made = sealed_tar(tmp_path / "strange", members)
    refused = site("restore", made, root=tmp_path / "new")
    assert refused.status == 4, refused.err
    assert not (tmp_path / "new").exists()
    assert not list(tmp_path.glob(".new*"))


def test_what_is_no_archive_is_refused(world, site, tmp_path):
    with (tmp_path / "odd").open("wb") as file:
        stream = SealingStream(file, Passphrase.from_text(WORDS), os.urandom)
        stream.write(b"no archive " * 1000)
        stream.finish()
    assert site("restore", tmp_path / "odd", root=tmp_path / "new").status == 4


def test_one_participants_backup_is_not_restored_as_anothers(world, store, agreed, site, tmp_path):
    """Bob's passphrase holder renames himself: the database, and then the release key, still say whose they are."""
    stage = tmp_path / "stage"
    store.close()  # which moves the write-ahead log into the database
    shutil.copytree(world.root, stage)
    (stage / "backup.json").write_text('{"format":"mcbn-backup-v1","made_at":1}')
    (stage / "broker.json").write_bytes(Identity("demo", "bob", "https://bob.example").to_bytes())
    repack(stage, tmp_path / "renamed")
    refused = site("restore", tmp_path / "renamed", root=tmp_path / "new")
    assert (refused.status, "its database is alice's" in refused.err) == (4, True)
    (stage / "broker.json").write_bytes(world.home.identity.to_bytes())
    stranger = Home.create(tmp_path / "x", world.home.identity, world.kek)
    shutil.copyfile(stranger.root / "release.key", stage / "release.key")
    repack(stage, tmp_path / "another-key")
    refused = site("restore", tmp_path / "another-key", root=tmp_path / "new")
    assert (refused.status, "is not alice's in its roster" in refused.err) == (4, True)


def test_a_backup_of_a_newer_program_is_refused(world, store, site, tmp_path):
    stage = tmp_path / "stage"
    store.close()  # which moves the write-ahead log into the database
    shutil.copytree(world.root, stage)
    (stage / "backup.json").write_text(json.dumps({"format": "mcbn-backup-v2", "made_at": 1}))
    repack(stage, tmp_path / "newer")
    refused = site("restore", tmp_path / "newer", root=tmp_path / "new")
    assert (refused.status, "this program cannot restore" in refused.err) == (4, True)


def repack(stage: Path, path: Path) -> None:
    with path.open("wb") as file:
        pack(stage, SealingStream(file, Passphrase.from_text(WORDS), os.urandom), ())


def test_after_an_older_restore_the_newest_bundle_is_accepted_again_if_its_share_was_backed_up(
    world, store, agreed, site, tmp_path
):
    store.new_share()
    assert site("backup", "--out", tmp_path / "b").status == 0
    newer = world.open_epoch(store, previous=agreed)
    store.close()
    destroy(world)
    known = bundle_of(newer, tmp_path)
    done = site("restore", tmp_path / "b", "--known", known, "--confirm", words(agreed, "older "))
    assert done.status == 0, done.err
    with world.open() as restored:
        assert restored.terms().manifests == ()
        assert restored.accept_manifest(newer.bundle).hash == newer.hash
        assert [one.epoch for one in restored.terms().manifests] == [2]
        assert restored.consent().state is ConsentState.PAUSED
