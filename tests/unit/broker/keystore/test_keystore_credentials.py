"""systemd's credentials are read as it hands them over, and other files no more freely than before."""

import os
import types
from pathlib import Path

import pytest

from mcbn_broker.errors import KeystoreError
from mcbn_broker.keystore.credentials import read_secret

KEY = b"k" * 32


@pytest.fixture
def credential(tmp_path, monkeypatch):
    """A file in what the environment says is the folder of credentials."""
    folder = tmp_path / "credentials"
    folder.mkdir(mode=0o700)
    path = folder / "mcbn-kek"
    path.write_bytes(KEY)
    path.chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return path


class Appearance:
    """How systemd would have made files: `looks(path, mode, user, group)`, on a file system that is read-only."""

    def __init__(self) -> None:
        self.read_only = True
        self._shown: dict[Path, dict[str, int]] = {}
        self._stat, self._statvfs = Path.stat, os.statvfs

    def __call__(self, path, mode, user=0, group=0):
        self._shown[path] = {"st_mode": mode, "st_uid": user, "st_gid": group}

    def stat(self, path, follow_symlinks):
        found = self._stat(path, follow_symlinks=follow_symlinks)
        fields = {name: getattr(found, name) for name in ("st_mode", "st_uid", "st_gid")}
        return types.SimpleNamespace(**(fields | (self._shown.get(path, {}) if follow_symlinks else {})))

    def statvfs(self, path):
        flags = self._statvfs(path).f_flag & ~os.ST_RDONLY
        return types.SimpleNamespace(f_flag=flags | (os.ST_RDONLY if self.read_only else 0))


@pytest.fixture
def looks(monkeypatch):
    appearance = Appearance()
    monkeypatch.setattr(Path, "stat", lambda path, *, follow_symlinks=True: appearance.stat(path, follow_symlinks))
    monkeypatch.setattr(os, "statvfs", appearance.statvfs)
    monkeypatch.setattr(os, "geteuid", lambda: 61_895)
    return appearance


def test_one_that_the_service_owns_is_a_private_file(credential):
    """As systemd up to 253 makes it."""
    assert read_secret(credential) == KEY


def test_one_that_root_owns_is_read_by_its_access_control_list(credential, looks):
    looks(credential.parent, 0o40550)
    looks(credential, 0o100440)
    assert read_secret(credential) == KEY


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ((0o40550, 0, 0), (0o100444, 0, 0)),
        ((0o40550, 0, 0), (0o100460, 0, 0)),
        ((0o40550, 0, 0), (0o100440, 0, 4)),
        ((0o40555, 0, 0), (0o100440, 0, 0)),
        ((0o40770, 0, 0), (0o100440, 0, 0)),
        ((0o40550, 7, 0), (0o100440, 0, 0)),
    ],
)
def test_one_that_others_could_read_or_put_there_is_refused(credential, looks, folder, file):
    looks(credential.parent, *folder)
    looks(credential, *file)
    with pytest.raises(KeystoreError, match="not as systemd hands a credential over"):
        read_secret(credential)


def test_one_that_can_be_written_is_not_systemds(credential, looks):
    looks(credential.parent, 0o40550)
    looks(credential, 0o100440)
    looks.read_only = False
    with pytest.raises(KeystoreError, match="can be written"):
        read_secret(credential)


def test_one_of_a_third_user_is_refused(credential, looks):
    looks(credential.parent, 0o40550)
    looks(credential, 0o100440, user=7)
    with pytest.raises(KeystoreError, match="belongs to user 7"):
        read_secret(credential)


def test_roots_file_elsewhere_is_refused_as_before(credential, looks, tmp_path):
    other = tmp_path / "kek"
    other.write_bytes(KEY)
    looks(other, 0o100440)
    with pytest.raises(KeystoreError, match="belongs to user 0"):
        read_secret(other)


def test_a_link_in_the_folder_is_judged_by_what_it_leads_to(credential, looks, tmp_path):
    other = tmp_path / "kek"
    other.write_bytes(KEY)
    link = credential.with_name("link")
    link.symlink_to(other)
    looks(other, 0o100440)
    looks(link, 0o100440)
    with pytest.raises(KeystoreError, match="belongs to user 0"):
        read_secret(link)
