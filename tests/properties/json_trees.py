"""JSON that may be anything: objects may have a member twice, all may be changed, and written in every style."""

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st

Path = tuple[int, ...]


class Members(list[tuple[str, Any]]):
    """An object as a list of members: a member may be there twice."""


@dataclass(frozen=True)
class Raw:
    """A value that is written as it is, JSON or not."""

    text: str


def tree(value: Any) -> Any:
    """Return a JSON value as a tree."""
    if isinstance(value, dict):
        return Members((name, tree(one)) for name, one in value.items())
    return [tree(one) for one in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class Style:
    """How JSON is written, where the standard leaves a choice."""

    comma: str
    colon: str
    ascii_only: bool
    escaped_names: bool

    def write(self, node: Any) -> str:
        if isinstance(node, Members):
            return "{" + self.comma.join(f"{self._name(n)}{self.colon}{self.write(v)}" for n, v in node) + "}"
        if isinstance(node, list):
            return "[" + self.comma.join(map(self.write, node)) + "]"
        return node.text if isinstance(node, Raw) else json.dumps(node, ensure_ascii=self.ascii_only)

    def _name(self, name: str) -> str:
        if self.escaped_names and name.isascii():
            return '"' + "".join(f"\\u{ord(letter):04x}" for letter in name) + '"'
        return json.dumps(name, ensure_ascii=self.ascii_only)


styles = st.builds(
    Style,
    comma=st.sampled_from((",", ", ", " ,\n\t")),
    colon=st.sampled_from((":", " : ")),
    ascii_only=st.booleans(),
    escaped_names=st.booleans(),
)
PLAIN: Final = Style(",", ":", ascii_only=True, escaped_names=False)

_text = st.text(st.characters(codec="utf-8"), max_size=20)
_leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text
values = st.recursive(_leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3))
"""Any JSON value."""

odd = st.sampled_from(
    (
        *("NaN", "Infinity", "-Infinity", "-0", "1.0", "1e3", "1E400", "9" * 400, "01", "+1", "0x10", ".5"),
        *('"\\ud800"', '"\\u0000"', '"\ufeff"', "'x'", "nul", "True", "[1,]", '{"a":1,}', "[" * 5000, '"'),
        *('{"a":1,"a":1}', '{"__proto__":{}}', "[" * 40 + "]" * 40, "/**/1", ""),
    )
).map(Raw)
"""What JSON parsers disagree about."""

_CONFUSABLE: Final = str.maketrans("aeiopc", "\u0430\u0435\u0456\u043e\u0440\u0441")


def paths(node: Any) -> list[Path]:
    """Return the places of all values in a tree, each as the indexes that lead to it; the root is ()."""
    inner = node if isinstance(node, list) else ()
    return [(), *((i, *rest) for i, one in enumerate(inner) for rest in paths(_value(node, one)))]


def _value(node: Any, item: Any) -> Any:
    return item[1] if isinstance(node, Members) else item


def _put(node: Any, index: int, value: Any) -> None:
    node[index] = (node[index][0], value) if isinstance(node, Members) else value


def _copy(node: Any) -> Any:
    if isinstance(node, Members):
        return Members((name, _copy(value)) for name, value in node)
    return [_copy(one) for one in node] if isinstance(node, list) else node


@st.composite
def changed(draw: st.DrawFn, value: Any, *, most: int = 3) -> Any:
    """A tree of this value, or of what one to `most` changes make of it: dropped, duplicated, retyped, moved, ..."""
    node = _copy(value)
    for _ in range(draw(st.integers(1, most))):
        node = draw(_changed_once(node))
    return node


@st.composite
def said_otherwise(draw: st.DrawFn, value: Any) -> Any:
    """A tree of this value with one member left out, or with another value of its kind or of another: still JSON."""
    node = _copy(value)
    *way, index = draw(st.sampled_from(paths(node)[1:]))
    parent = node
    for step in way:
        parent = _value(parent, parent[step])
    if draw(st.integers(0, 3)) == 0:
        del parent[index]
    else:
        present = _value(parent, parent[index])
        _put(parent, index, draw(st.one_of(_near(present), _retyped(present), _nested(present), values.map(tree))))
    return node


@st.composite
def _changed_once(draw: st.DrawFn, root: Any) -> Any:
    path = draw(st.sampled_from(paths(root)))
    if not path:
        return draw(st.one_of(_other_value(root), _reordered(root)))
    parent = root
    for index in path[:-1]:
        parent = _value(parent, parent[index])
    kind = draw(st.sampled_from(("drop", "duplicate", "value", "rename", "reorder")))
    _change_member(draw, parent, path[-1], kind)
    return root


def _change_member(draw: st.DrawFn, parent: Any, index: int, kind: str) -> None:
    present = _value(parent, parent[index])
    if kind == "drop":
        del parent[index]
    elif kind == "duplicate":
        again = draw(st.one_of(st.just(present), _other_value(present)))
        parent.insert(
            draw(st.integers(0, len(parent))), (parent[index][0], again) if isinstance(parent, Members) else again
        )
    elif kind == "rename" and isinstance(parent, Members):
        parent[index] = (draw(_other_name(parent[index][0])), present)
    elif kind == "reorder":
        _put(parent, index, draw(_reordered(present)))
    else:
        _put(parent, index, draw(_other_value(present)))


def _other_name(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from((name.upper(), name.title(), name + " ", name + "\0", name.translate(_CONFUSABLE), "", "x"))


@st.composite
def _reordered(draw: st.DrawFn, node: Any) -> Any:
    if not isinstance(node, list):
        return node
    shuffled = draw(st.permutations(node))
    return Members(shuffled) if isinstance(node, Members) else shuffled


@st.composite
def _other_value(draw: st.DrawFn, present: Any) -> Any:
    kind = draw(st.sampled_from(("any", "odd", "nested", "retyped", "near")))
    if kind == "any":
        return tree(draw(values))
    if kind == "odd":
        return draw(odd)
    if kind == "nested":
        return draw(_nested(present))
    return draw(_retyped(present) if kind == "retyped" else _near(present))


def _nested(present: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(([present], Members([("x", present)]), [present, present], [], Members()))


def _retyped(present: Any) -> st.SearchStrategy[Any]:
    as_text = present if isinstance(present, str) else PLAIN.write(present)
    choices = [as_text, Raw(as_text), None, True, False, 0, 1, float(present) if isinstance(present, int) else 0.0]
    return st.sampled_from(choices)


def _near(present: Any) -> st.SearchStrategy[Any]:
    if isinstance(present, bool):
        return st.just(not present)
    if isinstance(present, int):
        return st.integers(-4000, 4000).map(lambda difference: present + difference)
    if isinstance(present, str) and present:
        return st.sampled_from(
            (present[:-1], present + "x", present.upper(), " " + present, present.translate(_CONFUSABLE), present * 2)
        )
    return st.just(present)


def strict(text: bytes) -> Any:
    """Parse JSON as strictly as anybody would.

    Raises:
        ValueError: Not UTF-8, not JSON, a member twice, NaN, or an infinite number.
    """

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a member twice")
        return dict(pairs)

    def constant(name: str) -> None:
        raise ValueError(name)

    return json.loads(text.decode("utf-8"), object_pairs_hook=members, parse_constant=constant)


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, types included; the order of members does not matter, that of items does."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and not (isinstance(one, float) and math.isnan(one))
