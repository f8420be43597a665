import os
import stat

import pytest

from mcbn_broker.errors import KeystoreError
from mcbn_broker.keystore import files


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_file_is_0600_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        files.write_private(tmp_path / "key", b"one")
        files.make_private_folder(tmp_path / "folder")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "key"), mode(tmp_path / "folder")) == (0o600, 0o700)


def test_writing_replaces_and_leaves_nothing_else(tmp_path):
    files.write_private(tmp_path / "key", b"one")
    files.write_private(tmp_path / "key", b"two")
    assert files.read_private(tmp_path / "key") == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_write_that_fails_keeps_the_old_file(tmp_path, monkeypatch):
    files.write_private(tmp_path / "key", b"one")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeystoreError, match="No space left"):
        files.write_private(tmp_path / "key", b"two")
    with pytest.raises(KeystoreError, match="No space left"):
        files.make_private_folder(tmp_path / "folder")
    monkeypatch.undo()
    assert files.read_private(tmp_path / "key") == b"one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "key"]


def test_file_and_folder_are_synced_before_the_call_returns(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_private(tmp_path / "key", b"one")
    assert synced == [False, True]


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620])
def test_a_file_open_to_others_is_refused(tmp_path, bits):
    files.write_private(tmp_path / "key", b"one")
    (tmp_path / "key").chmod(bits)
    with pytest.raises(KeystoreError, match="open to others"):
        files.read_private(tmp_path / "key")


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(KeystoreError, match="No such file"):
        files.read_private(tmp_path / "key")
    files.make_private_folder(tmp_path / "folder")
    with pytest.raises(KeystoreError, match="directory"):
        files.read_private(tmp_path / "folder")
    files.write_private(tmp_path / "large", b"x" * (files.FILE_BYTES_MAX + 1))
    with pytest.raises(KeystoreError, match="larger"):
        files.read_private(tmp_path / "large")


def test_an_existing_file_is_never_created_over(tmp_path):
    files.create_private(tmp_path / "key", b"one")
    with pytest.raises(KeystoreError, match="exists"):
        files.create_private(tmp_path / "key", b"two")
    assert files.read_private(tmp_path / "key") == b"one"


def test_destroying_overwrites_before_it_unlinks(tmp_path):
    files.write_private(tmp_path / "key", b"secret")
    os.link(tmp_path / "key", tmp_path / "witness")
    files.destroy(tmp_path / "key")
    assert not (tmp_path / "key").exists()
    assert (tmp_path / "witness").read_bytes() == bytes(6)
    files.destroy(tmp_path / "key")


def test_a_failed_destruction_is_not_silent(tmp_path, monkeypatch):
    files.write_private(tmp_path / "key", b"secret")

    def broken(_descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(KeystoreError, match="cannot be destroyed"):
        files.destroy(tmp_path / "key")
