"""What a command asks, and that it never asks where nobody can answer."""

import os
import pty
import subprocess
import sys

import pytest

from mcbn_broker.ceremony.passphrase import Passphrase
from mcbn_broker.cli import prompts
from mcbn_broker.errors import CeremonyError, UsageError


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)


@pytest.fixture
def passphrase_file(tmp_path):
    path = tmp_path / "passphrase"
    path.write_bytes("correct horse é\n".encode())
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_passphrase_file_is_one_line(passphrase_file, ending):
    passphrase_file.write_bytes(b"correct horse battery" + ending.encode())
    assert prompts.read_passphrase(passphrase_file, new=True) == Passphrase.from_text("correct horse battery")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_passphrase_file_open_to_others_is_refused(passphrase_file, mode):
    passphrase_file.chmod(mode)
    with pytest.raises(UsageError, match="find out who read it, then: chmod 600"):
        prompts.read_passphrase(passphrase_file, new=False)


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"\xff" * 20, UsageError), (b"two lines of\nwords here\n", CeremonyError), (b"", CeremonyError)],
)
def test_passphrase_file_of_another_form_is_refused(passphrase_file, content, error):
    passphrase_file.write_bytes(content)
    with pytest.raises(error):
        prompts.read_passphrase(passphrase_file, new=False)


def test_missing_passphrase_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*absent"):
        prompts.read_passphrase(tmp_path / "absent", new=False)


def test_passphrase_from_another_process_is_read(tmp_path):
    """`--passphrase-file <(pass show mcbn)`: a pipe has no mode to check."""
    reading, writing = os.pipe()
    os.write(writing, b"correct horse battery\n")
    os.close(writing)
    try:
        path = type(tmp_path)(f"/dev/fd/{reading}")
        assert prompts.read_passphrase(path, new=False) == Passphrase.from_text("correct horse battery")
    finally:
        os.close(reading)


def test_without_a_terminal_the_error_names_the_option():
    with pytest.raises(UsageError, match="--passphrase-file"):
        prompts.read_passphrase(None, new=False)
    with pytest.raises(UsageError, match="--yes"):
        prompts.confirm("Really?", yes=False)
    with pytest.raises(UsageError, match=r'^no terminal: give --confirm "restore epoch 1"$'):
        prompts.ask_words("restore epoch 1", option="--confirm")


@pytest.mark.usefixtures("terminal")
def test_words_are_shown_and_what_was_typed_is_returned(monkeypatch):
    monkeypatch.setattr("typer.prompt", lambda question, err: f"{question}, {err}")
    assert prompts.ask_words("restore epoch 1", option="--confirm") == 'Type "restore epoch 1" to go on, True'


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("answer", [True, False])
def test_no_means_nothing_is_done(monkeypatch, answer):
    monkeypatch.setattr("typer.confirm", lambda question, err: answer)
    if answer:
        prompts.confirm("Really?", yes=False)
        return
    with pytest.raises(CeremonyError, match="nothing was done"):
        prompts.confirm("Really?", yes=False)


def test_yes_on_the_command_line_asks_nothing():
    prompts.confirm("Really?", yes=True)


def test_new_passphrase_is_asked_for_twice_at_a_terminal_and_not_shown(tmp_path):
    words = [sys.executable, "-m", "mcbn_broker", "consent-key", "new", "--out", str(tmp_path / "key.json")]
    ours, theirs = pty.openpty()
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        seen = converse(ours, ["first passphrase", "other passphrase", "third passphrase", "third passphrase"])
    os.close(ours)
    assert process.returncode == 0, seen
    assert b"do not match" in seen
    assert b"third" not in seen
    assert b"at least 12 characters" in seen
    assert (tmp_path / "key.json").exists()


def test_a_short_new_passphrase_is_asked_for_anew_before_it_is_repeated(tmp_path):
    words = [sys.executable, "-m", "mcbn_broker", "consent-key", "new", "--out", str(tmp_path / "key.json")]
    ours, theirs = pty.openpty()
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        seen = converse(ours, ["too short", "long enough words", "long enough words"])
    os.close(ours)
    assert process.returncode == 0, seen
    before, _, after = seen.partition(b"a passphrase has 12 to 1024 characters")
    assert b"Repeat" not in before
    assert after.count(b"Repeat") == 1
    assert (tmp_path / "key.json").exists()


def converse(terminal, lines):
    """Answer each prompt once it is complete, and return all that was shown."""
    seen, waiting = b"", list(lines)
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other end was closed: the process has ended
            return seen
        seen += part
        if waiting and seen.endswith(b": "):
            os.write(terminal, waiting.pop(0).encode() + b"\n")
