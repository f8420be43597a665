"""The root of the command line: version, help, exit codes, and what a person sees when something goes wrong."""

import pytest

from mcbn_broker import __version__
from mcbn_broker.cli import status
from mcbn_broker.errors import EXIT_CODES, AuditError, BrokerError, KeystoreError, StorageError
from mcbn_broker.keystore.cloud_kms.errors import CloudKmsUnavailableError
from mcbn_protocol.errors import MalformedError


def test_version_is_on_standard_output(command):
    result = command("--version")
    assert (result.status, result.out, result.err) == (0, f"mcbn-broker {__version__}\n", "")


def test_help_names_every_noun_and_every_exit_code(command):
    text = command("--help").out
    for noun in ["init", "consent-key", "card", "roster", "share", "manifest", "consent", "audit", "status", "serve"]:
        assert f"\n  {noun} " in text
    flat = " ".join(text.split())
    assert all(f"{one.number} {name.replace('_', ' ')}" in flat for name, one in EXIT_CODES.items())


@pytest.mark.parametrize("noun", [[], ["roster"], ["manifest"], ["consent"], ["policy"], ["audit"]])
def test_no_summary_is_cut_off_at_80_columns(command, monkeypatch, noun):
    monkeypatch.setenv("COLUMNS", "80")
    _head, commands, listed = command(*noun, "--help").out.partition("Commands:\n")
    assert commands
    assert "..." not in listed


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["status", "--nonsense"],
        ["manifest", "sign"],
        ["status", "--output", "yaml"],
        ["audit", "tail", "-n", "0"],
    ],
)
def test_wrong_usage_is_exit_code_2(command, words):
    result = command(*words)
    assert (result.status, result.out) == (EXIT_CODES["usage"].number, "")
    assert result.err.startswith("Usage: mcbn-broker")


def test_help_of_serve_says_what_several_brokers_on_one_host_need(command):
    assert "different --health-listen" in " ".join(command("serve", "--help").out.split())


def test_unknown_setting_in_the_file_is_named_with_the_page_of_all_settings(command, tmp_path):
    (tmp_path / "broker.toml").write_text("foo = 1\n")
    result = command("serve", "--data-dir", tmp_path, "--kek-file", tmp_path / "kek")
    assert result.status == EXIT_CODES["usage"].number
    expected = f"{tmp_path / 'broker.toml'}: unknown setting 'foo'; see docs/reference/broker-settings.md"
    assert expected in result.err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--name", "Alice"),
        ("--network", "a" * 33),
        ("--url", "ftp://x"),
        ("--url", "https://u@x"),
        ("--url", "https://x:99999"),
    ],
)
def test_init_refuses_bad_names_and_urls_before_it_makes_anything(command, tmp_path, option, value):
    words = {"--network": "demo", "--name": "alice", "--url": "https://x.example"} | {option: value}
    flat = [word for pair in words.items() for word in pair]
    paths = ["--data-dir", tmp_path / "state", "--create-kek", "--kek-file", tmp_path / "kek"]
    assert command("init", *flat, *paths).status == EXIT_CODES["usage"].number
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (BrokerError("x"), "failed"),
        (AuditError(7, "its hash is wrong"), "verification"),
        (StorageError("x"), "storage"),
        (KeystoreError("x"), "keys"),
        (CloudKmsUnavailableError("x"), "unavailable"),
        (MalformedError("x"), "refused"),
    ],
)
def test_expected_errors_become_a_sentence_and_their_exit_code(command, monkeypatch, error, name):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(status, "open_keyless_store", fail)
    result = command("status")
    assert (result.status, result.out, result.err) == (EXIT_CODES[name].number, "", f"mcbn-broker: {error}\n")


@pytest.mark.parametrize("wanted", [False, True])
def test_unexpected_errors_show_their_traceback_only_on_request(command, monkeypatch, wanted):
    def fail(*_arguments, **_options):
        raise ZeroDivisionError("with a secret in it")

    monkeypatch.setattr(status, "open_keyless_store", fail)
    monkeypatch.setenv("MCBN_TRACEBACK", "1" if wanted else "")
    result = command("status")
    assert (result.status, result.out) == (EXIT_CODES["failed"].number, "")
    assert "MCBN_TRACEBACK=1" in result.err
    assert ("Traceback" in result.err, "secret" in result.err) == (wanted, wanted)


def test_text_of_others_cannot_steer_the_terminal(command, tmp_path):
    (tmp_path / "roster.json").write_bytes(
        b'{"\x1b]0;owned\x07":1}'.replace(b"\x1b", b"\\u001b").replace(b"\x07", b"\\u0007")
    )
    result = command("roster", "show", tmp_path / "roster.json")
    assert result.status == EXIT_CODES["refused"].number
    assert "\x1b" not in result.err
    assert "\x07" not in result.err
