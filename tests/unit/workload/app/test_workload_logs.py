"""How the log is written: JSON for programs, words for a person, and nothing that a terminal would obey."""

import asyncio
import gc
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


HOSTILE = [
    *("\x1b[2Jgone", "two\nlines", "\u202eright to left", "\x9b31m", 'x" event=lie', "x event=lie"),
    *("a\u3164b", "\u015b2J", "event\uff1dlie"),
]


@pytest.mark.parametrize("sent", HOSTILE)
def test_what_others_sent_stays_one_inert_word(sent):
    line = words("refused", reason=sent)
    assert line.isprintable()
    assert line == f"TIME refused reason={json.dumps(sent)}"


@pytest.mark.parametrize("sent", HOSTILE)
def test_a_message_that_could_be_taken_for_more_is_quoted(sent):
    assert words(f"look: {sent}", event="real") == f"TIME {json.dumps(f'look: {sent}')} event=real"


@pytest.mark.parametrize("sent", HOSTILE)
def test_a_traceback_tells_where_and_not_what_may_have_come_through_a_channel(sent):
    def look_up():
        raise KeyError(sent)

    made = record("a fault", logging.ERROR)
    try:
        try:
            look_up()
        except KeyError as error:
            raise ValueError(sent) from error
    except ValueError as error:
        made.exc_info = (type(error), error, error.__traceback__)
    _, *lines = Words(colour=False).format(made).splitlines()
    here = rf"  \| {re.escape(__file__)}:\d+, "
    test = test_a_traceback_tells_where_and_not_what_may_have_come_through_a_channel.__name__
    found = [re.sub(here, "", line) for line in lines]
    assert found == [test, "  | ValueError", test, "look_up", "  | KeyError"]
    told = json.loads(JsonLines().format(made))["traceback"].split("\n")
    assert told == [line.removeprefix("  | ") for line in lines]


def test_a_traceback_of_a_group_tells_where_each_came_from():
    made = record("a fault", logging.ERROR)
    group = ExceptionGroup("several", [ValueError("one"), ExceptionGroup("inner", [KeyError("two")])])
    made.exc_info = (type(group), group, None)
    told = json.loads(JsonLines().format(made))["traceback"].split("\n")
    assert told == ["ExceptionGroup", "ValueError", "ExceptionGroup", "KeyError"]


async def test_what_asyncio_says_of_a_lost_exception_does_not_quote_it(caplog):
    async def fail():
        raise ValueError("hunter2")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    del task
    gc.collect()
    (made,) = [one for one in caplog.records if one.name == "asyncio"]
    assert "hunter2" in made.getMessage()
    for line in (JsonLines().format(made), Words(colour=False).format(made)):
        assert "Task exception was never retrieved" in line
        assert "ValueError" in line
        assert "hunter2" not in line


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
