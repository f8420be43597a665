"""What people read: escaped, folded but never cut, without colour where none is wanted."""

import json

import pytest

from mcbn_broker.cli import text


@pytest.mark.parametrize(
    ("unverified", "shown"),
    [
        ("plain text é 漢", "plain text é 漢"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\u202eb", "a\\u202eb"),
        ("two\nlines", "two\\nlines"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_control_and_direction_characters_are_escaped(unverified, shown):
    assert text.printable(unverified) == shown


def test_long_values_are_folded_never_cut(monkeypatch, capsys):
    digest = "sha256:" + "0123456789abcdef" * 4
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    text.show_facts("Facts", [("image digest", digest)])
    shown = capsys.readouterr().out
    assert digest not in shown
    assert "…" not in shown
    assert digest in "".join(shown.replace("image digest", "").replace("Facts", "").split())


def test_without_a_terminal_lines_are_whole(capsys):
    digest = "sha256:" + "0123456789abcdef" * 4
    text.show_facts("Facts", [("image digest", digest)])
    assert digest in capsys.readouterr().out


def test_markup_in_a_value_is_text(capsys):
    text.show_facts("Facts", [("args", "[bold]x[/bold] :smile:")])
    assert "[bold]x[/bold] :smile:" in capsys.readouterr().out


@pytest.mark.parametrize("no_color", [True, False])
def test_no_color_is_honoured(monkeypatch, capsys, no_color):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    else:
        monkeypatch.delenv("NO_COLOR", raising=False)
    text.warn("look out")
    shown = capsys.readouterr().err
    assert "WARNING: look out" in shown
    assert ("\x1b[1;31m" in shown) is not no_color


def test_talk_is_on_standard_error_and_data_on_standard_output(capsys):
    text.say("talk")
    text.say_next("do this")
    text.emit_json({"b": 1, "a": "é"})
    captured = capsys.readouterr()
    assert captured.err == "talk\nNext: do this\n"
    assert json.loads(captured.out) == {"b": 1, "a": "é"}
    assert captured.out.isascii()
