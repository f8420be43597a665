"""Files of the set-up: complete or not there, and never replaced by accident."""

import pytest

from mcbn_broker.ceremony.files import PRIVATE, PUBLIC, read_file, write_new
from mcbn_broker.errors import UsageError


def test_new_file_has_content_and_mode_and_leaves_nothing_else(tmp_path):
    write_new(tmp_path / "secret", b"one", mode=PRIVATE, force=False)
    write_new(tmp_path / "public", b"two", mode=PUBLIC, force=False)
    assert (tmp_path / "secret").read_bytes() == b"one"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "public").stat().st_mode & 0o111 == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["public", "secret"]


def test_other_content_is_replaced_only_by_force(tmp_path):
    path = tmp_path / "file"
    write_new(path, b"old", mode=PUBLIC, force=False)
    write_new(path, b"old", mode=PUBLIC, force=False)
    with pytest.raises(UsageError, match="another content"):
        write_new(path, b"new", mode=PUBLIC, force=False)
    assert path.read_bytes() == b"old"
    write_new(path, b"new", mode=PUBLIC, force=True)
    assert path.read_bytes() == b"new"


def test_dangling_link_is_not_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError):
        write_new(tmp_path / "link", b"data", mode=PUBLIC, force=False)
    assert not (tmp_path / "elsewhere").exists()


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write .*missing/file: No such file"):
        write_new(tmp_path / "missing" / "file", b"data", mode=PUBLIC, force=False)


def test_file_that_is_too_large_or_missing_is_named(tmp_path):
    (tmp_path / "large").write_bytes(b"12345")
    assert read_file(tmp_path / "large", limit=5) == b"12345"
    with pytest.raises(UsageError, match="more than 4 bytes"):
        read_file(tmp_path / "large", limit=4)
    with pytest.raises(UsageError, match=r"cannot read .*absent: No such file"):
        read_file(tmp_path / "absent", limit=4)


def test_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        write_new(tmp_path / "file", b"data", mode=PUBLIC, force=False)
    assert list(tmp_path.iterdir()) == []
