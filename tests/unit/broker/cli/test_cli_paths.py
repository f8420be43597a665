"""Where data directory and key-encryption key are looked for."""

from pathlib import Path

import pytest

from mcbn_broker.cli import paths
from mcbn_broker.errors import EXIT_CODES, UsageError


@pytest.fixture
def user(monkeypatch, tmp_path):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return tmp_path


def test_nothing_else_is_written_into_a_data_directory(tmp_path, command):
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "data/broker.json").touch()
    (tmp_path / "passphrase").touch(0o600)
    (tmp_path / "passphrase").write_text("correct horse battery staple")
    words = ("--passphrase-file", tmp_path / "passphrase")
    refused = command("consent-key", "new", "--out", tmp_path / "data/deep/alice.consent-key.json", *words)
    assert refused.status == EXIT_CODES["usage"].number
    assert f"would lie in the broker's data directory {tmp_path / 'data'}: " in refused.err
    assert not any((tmp_path / "data/deep").iterdir())
    assert command("consent-key", "new", "--out", tmp_path / "alice.consent-key.json", *words).status == 0


def test_option_wins(user):
    assert paths.resolve_data_dir(Path("here")) == Path("here")
    assert paths.resolve_kek_file(Path("kek")) == Path("kek")


def test_root_uses_the_systems_folder(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert paths.resolve_data_dir(None) == Path("/var/lib/mcbn-broker")


@pytest.mark.parametrize(
    ("state", "expected"),
    [(None, "~/.local/state/mcbn-broker"), ("/state", "/state/mcbn-broker"), ("relative", None), ("", None)],
)
def test_user_has_a_folder_of_its_own(user, monkeypatch, state, expected):
    if state is not None:
        monkeypatch.setenv("XDG_STATE_HOME", state)
    expected = (expected or "~/.local/state/mcbn-broker").replace("~", str(user))
    assert paths.resolve_data_dir(None) == Path(expected)


def test_systemds_credential_is_the_default_key(user, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/mcbn-broker.service")
    assert paths.resolve_kek_file(None) == Path("/run/credentials/mcbn-broker.service/mcbn-kek")


def test_missing_key_names_the_option(user):
    with pytest.raises(UsageError, match=r"--kek-file FILE .*--kek gcp-kms://.* \(MCBN_KEK\).* credential mcbn-kek"):
        paths.resolve_kek_file(None)
