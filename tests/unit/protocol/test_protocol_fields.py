"""The strict reader of JSON objects: each kind of member, and each way to get it wrong."""

import re
from enum import StrEnum

import pytest

from mcbn_protocol.errors import MalformedError
from mcbn_protocol.fields import Fields


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


READERS = {
    "text": lambda f: f.text("x", pattern=re.compile("[a-z]+"), maximum=5),
    "exactly": lambda f: f.exactly("x", "abc"),
    "integer": lambda f: f.integer("x", minimum=1, maximum=3),
    "boolean": lambda f: f.boolean("x"),
    "flag": lambda f: f.flag("x"),
    "hash": lambda f: f.hash("x"),
    "base64url": lambda f: f.base64url("x", length=3),
    "object": lambda f: f.object("x"),
    "array": lambda f: f.array("x", minimum=1, maximum=2),
    "texts": lambda f: f.texts("x", minimum=1, pattern=re.compile("[a-z]+")),
    "text_set": lambda f: f.text_set("x", minimum=1),
    "choice": lambda f: f.choice("x", Colour),
    "choices": lambda f: f.choices("x", Colour),
    "nullable": lambda f: f.nullable("x", f.hash),
    "optional": lambda f: f.optional("x", f.boolean),
}
GOOD = [
    ("text", "abcde", "abcde"),
    ("exactly", "abc", None),
    ("integer", 3, 3),
    ("boolean", False, False),
    ("flag", True, True),
    ("hash", "00" * 32, bytes(32)),
    ("base64url", "AAAA", bytes(3)),
    ("object", {"y": 1}, {"y": 1}),
    ("array", [1, None], [1, None]),
    ("texts", ["b", "a", "a"], ("b", "a", "a")),
    ("text_set", ["a", "b"], ("a", "b")),
    ("choice", "red", Colour.RED),
    ("choices", ["red", "blue"], (Colour.RED, Colour.BLUE)),
    ("nullable", None, None),
    ("nullable", "00" * 32, bytes(32)),
    ("optional", True, True),
]
BAD: list[tuple[str, list[object]]] = [
    ("text", ["", "abcdef", "ABC", "abc\n", 1, None, ["abc"]]),
    ("exactly", ["abcd", 1, None]),
    ("integer", [0, 4, True, False, "1", None]),
    ("boolean", [0, 1, "true", None]),
    ("flag", [False, 1, "true", None]),
    ("hash", ["00" * 31, "AA" * 32, 0]),
    ("base64url", ["AAA", "AAA=", 0]),
    ("object", [[], "", None]),
    ("array", [[], [1, 2, 3], {}, "ab"]),
    ("texts", [[], ["A"], [1], [""], "ab"]),
    ("text_set", [["b", "a"], ["a", "a"], []]),
    ("choice", ["green", "RED", 1, True, [], {}, None]),
    ("choices", [["red", "red"], ["green"], [], "red", [["red"]]]),
    ("nullable", [0, "", False]),
    ("optional", [None, 0]),
]


@pytest.mark.parametrize(("kind", "value", "expected"), GOOD)
def test_reads(kind, value, expected):
    with Fields({"x": value}, "doc") as fields:
        assert READERS[kind](fields) == expected


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in BAD for value in values])
def test_refuses_and_names_the_member(kind, value):
    with pytest.raises(MalformedError, match=r"^doc\.x: "):
        READERS[kind](Fields({"x": value}, "doc"))


@pytest.mark.parametrize("kind", sorted(set(READERS) - {"flag", "optional"}))
def test_a_missing_member_is_refused(kind):
    with pytest.raises(MalformedError, match=r"^doc\.x: required member is missing"):
        READERS[kind](Fields({}, "doc"))


def test_what_may_be_left_out_is_false_or_none():
    fields = Fields({}, "doc")
    assert fields.flag("x") is False
    assert fields.optional("x", fields.boolean) is None
    assert not fields.take_if("x", None)


@pytest.mark.parametrize("value", [None, [], "x", 1])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(MalformedError, match=r"doc: a JSON object"):
        Fields(value, "doc")


def test_members_that_nobody_read_are_refused():
    with pytest.raises(MalformedError, match=r"^doc: unknown member 'y', 'z'$"), Fields({"z": 1, "y": 1}, "doc"):
        pass


def test_hostile_names_are_shown_short_and_escaped():
    names = {f"{n}\n\x1b[31m" + "x" * 10_000: 1 for n in range(10)}
    with pytest.raises(MalformedError) as caught, Fields(names, "doc"):
        pass
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()


def test_an_error_inside_is_not_hidden_by_members_left_over():
    with pytest.raises(KeyError), Fields({"x": 1}, "doc"):
        raise KeyError("inside")


def test_reading_leaves_the_callers_object_alone():
    value = {"x": True}
    with Fields(value, "doc") as fields:
        fields.boolean("x")
    assert value == {"x": True}
