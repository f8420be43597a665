"""How the log is written: JSON for programs, words for a person, and nothing that a terminal would obey."""

import json
import logging
import os
import pty
import re
import subprocess
import sys

import pytest

from mcbn_workload.app.logs import JsonLines, Words

COLOUR = "\x1b["


def record(message, level=logging.INFO, **extra):
    made = logging.LogRecord("mcbn.workload.test", level, __file__, 1, message, (), None)
    made.__dict__ |= extra
    return made


def words(*arguments, colour=False, **extra):
    line = Words(colour=colour).format(record(*arguments, **extra))
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", "TIME", line)


def test_a_line_of_words_has_the_message_and_the_facts():
    line = words(
        "a channel is open", event="channel_opened", suite="TLS_X", bytes=3, brokers=[{"name": "bob"}], group=""
    )
    assert line == (
        'TIME a channel is open event=channel_opened suite=TLS_X bytes=3 brokers=[{"name": "bob"}] group=""'
    )


def test_a_warning_says_so():
    assert words("look", logging.WARNING) == "TIME WARNING look"
    assert words("look", logging.ERROR, colour=True) == "\x1b[2mTIME\x1b[0m \x1b[31mERROR\x1b[0m look"


@pytest.mark.parametrize("sent", ["\x1b[2Jgone", "two\nlines", "\u202eright to left", "\x9b31m", 'x" event=lie'])
def test_what_others_sent_stays_one_inert_word(sent):
    line = words("refused", reason=sent)
    assert line.isprintable()
    assert line == f"TIME refused reason={json.dumps(sent)}"


def test_a_message_with_control_characters_is_quoted():
    assert words("a\x1b[2Jb") == 'TIME "a\\u001b[2Jb"'


def test_a_traceback_follows():
    made = record("a fault", logging.ERROR)
    made.exc_info = (ValueError, ValueError("because"), None)
    assert Words(colour=False).format(made).splitlines()[1:] == ["ValueError: because"]
    assert json.loads(JsonLines().format(made))["traceback"] == "ValueError: because"


def said_at_a_terminal(tmp_path, *options):
    """What a command that cannot find its settings says on a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-I", "-m", "mcbn_workload", "client", "--config", tmp_path / "none.toml", *options]
    with subprocess.Popen(command, stderr=theirs, env={"PATH": os.environ["PATH"]}) as process:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 4096):
                said += piece
        except OSError:  # EIO: the other end is closed
            pass
    os.close(ours)
    assert process.returncode == 3
    return said.decode().strip()


def test_a_person_at_a_terminal_gets_words_and_colour(tmp_path):
    said = said_at_a_terminal(tmp_path)
    assert f"{COLOUR}31mERROR" in said
    assert "cannot read" in said


def test_no_colour_for_who_asks_for_text(tmp_path):
    said = said_at_a_terminal(tmp_path, "--output", "text")
    assert COLOUR not in said
    assert " ERROR cannot read" in said


def test_a_program_gets_json_at_a_terminal_too(tmp_path):
    assert json.loads(said_at_a_terminal(tmp_path, "--output", "json"))["code"] == "configuration_invalid"


def test_words_are_had_without_a_terminal(tmp_path):
    command = [sys.executable, "-I", "-m", "mcbn_workload", "client", "--config", tmp_path / "none.toml"]
    plain, text = (
        subprocess.run([*command, *options], capture_output=True, text=True, check=False).stderr
        for options in ((), ("--output", "text"))
    )
    assert json.loads(plain)["event"] == "failed"
    assert " ERROR cannot read" in text
    assert COLOUR not in text
