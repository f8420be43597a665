"""What people read: escaped, folded but never cut, without colour where none is wanted."""

import json
import re

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


DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER = "sha256:" + "fedcba9876543210" * 4


def plain_lines(capsys):
    """Return the lines on standard output without styles and without spaces at their ends."""
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def narrow(monkeypatch):
    """Give `narrow(40)`: a terminal of that many columns."""

    def make(columns):
        monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
        monkeypatch.setenv("COLUMNS", str(columns))

    return make


def test_long_values_are_folded_never_cut(narrow, capsys):
    narrow(40)
    value = "/a/long/way" * 7
    text.show_facts("Facts", [("file", value)])
    shown = capsys.readouterr().out
    assert value not in shown
    assert "…" not in shown
    assert value in "".join(shown.replace("file", "").replace("Facts", "").split())


@pytest.mark.parametrize("columns", [40, 80])
def test_a_digest_in_facts_is_never_folded(narrow, capsys, columns):
    narrow(columns)
    text.show_facts("Facts", [("network", "demo"), ("image digest", DIGEST), ("threshold", "2 of 2")])
    assert plain_lines(capsys) == [
        "Facts",
        "",
        "  network       demo",
        "  image digest",
        f"    {DIGEST}",
        "  threshold     2 of 2",
        "",
    ]


def test_a_digest_in_rows_is_never_folded(narrow, capsys):
    narrow(80)
    text.show_rows("Rows", ("name", "state", "hash"), [("a", "current", DIGEST), ("b", "next", OTHER)])
    assert plain_lines(capsys) == [
        *("Rows", "", "  name   a", "  state  current", f"  hash   {DIGEST}"),
        *("", "  name   b", "  state  next", f"  hash   {OTHER}", ""),
    ]


def test_a_digest_that_has_room_leaves_the_table_a_table(narrow, capsys):
    narrow(100)
    text.show_rows("Rows", ("name", "hash"), [("a", DIGEST)])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if DIGEST in line]
    assert line.split() == ["a", DIGEST]


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
