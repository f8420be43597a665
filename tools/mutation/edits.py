"""The small faults that one syntax node can be given, each as a replacement of source text.

Text is replaced, and not the tree, so that a mutant reads as the line that somebody could have written.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

_COMPARISONS: Final[dict[type[ast.cmpop], tuple[str, ...]]] = {
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
}
_COMPARISON: Final = re.compile(rb"not\s+in|is\s+not|[<>=!]=|[<>]|\bin\b|\bis\b")
_ARITHMETIC: Final[dict[type[ast.operator], tuple[str, str]]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
}


class Edit(NamedTuple):
    """Bytes `start` to `end` of a source are replaced by `text`."""

    start: int
    end: int
    text: str


class Source:
    """A module's text, and where its nodes stand in it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._lines = [0]
        for line in data.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def span(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        """Return where a node begins and ends, in bytes."""
        if node.end_lineno is None or node.end_col_offset is None:
            raise ValueError("a parsed node has an end")
        return (
            self._lines[node.lineno - 1] + node.col_offset,
            self._lines[node.end_lineno - 1] + node.end_col_offset,
        )

    def text(self, node: ast.expr | ast.stmt | ast.keyword) -> str:
        """Return a node's text."""
        start, end = self.span(node)
        return self.data[start:end].decode()

    def replaced(self, edit: Edit) -> bytes:
        """Return the source after an edit."""
        return self.data[: edit.start] + edit.text.encode() + self.data[edit.end :]

    def lines_around(self, edit: Edit) -> tuple[str, str]:
        """Return the whole lines that an edit touches, before and after it, with single spaces."""
        first = self.data.rfind(b"\n", 0, edit.start) + 1
        last = self.data.find(b"\n", edit.end)
        before = self.data[first:last].decode()
        after = (self.data[first : edit.start] + edit.text.encode() + self.data[edit.end : last]).decode()
        return " ".join(before.split()), " ".join(after.split())


def replace(source: Source, node: ast.expr | ast.stmt, text: str) -> Edit:
    """Put another text in the place of a node."""
    return Edit(*source.span(node), text)


def comparisons(source: Source, node: ast.Compare) -> Iterator[Edit]:
    """Turn each comparison into its neighbours."""
    for (left, right), operator in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
        gap, end = source.span(left)[1], source.span(right)[0]
        match = _COMPARISON.search(source.data, gap, end)
        if match is not None:
            for text in _COMPARISONS[type(operator)]:
                yield Edit(match.start(), match.end(), text)


def connectives(source: Source, node: ast.BoolOp) -> Iterator[Edit]:
    """Swap `and` and `or`, and leave out each operand."""
    texts = [source.text(value) for value in node.values]
    here, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    yield replace(source, node, "(" + f" {other} ".join(f"({text})" for text in texts) + ")")
    for at in range(len(texts)):
        rest = [f"({text})" for place, text in enumerate(texts) if place != at]
        yield replace(source, node, "(" + f" {here} ".join(rest) + ")")


def unary(source: Source, node: ast.UnaryOp) -> Iterator[Edit]:
    """Leave out `not` and the minus sign."""
    if isinstance(node.op, ast.Not | ast.USub):
        yield replace(source, node, f"({source.text(node.operand)})")


def arithmetic(source: Source, node: ast.BinOp | ast.AugAssign) -> Iterator[Edit]:
    """Turn an arithmetic or set operator into another one."""
    left, right = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.target, node.value)
    if type(node.op) in _ARITHMETIC:
        here, other = _ARITHMETIC[type(node.op)]
        at = source.data.find(here.encode(), source.span(left)[1], source.span(right)[0])
        if at >= 0:
            yield Edit(at, at + len(here), other)


def constant(source: Source, node: ast.Constant) -> Iterator[Edit]:
    """Add one to a number, flip a truth value, change a text."""
    match node.value:
        case bool():
            yield replace(source, node, str(not node.value))
        case int() | float():
            yield replace(source, node, repr(node.value + 1))
        case str():
            yield replace(source, node, repr("XX" + node.value))
        case bytes():
            yield replace(source, node, repr(b"XX" + node.value))


def formatted(source: Source, node: ast.JoinedStr) -> Iterator[Edit]:
    """Change a formatted text at its beginning; what is inside has no reliable place before Python 3.12."""
    yield replace(source, node, f'("XX" + {source.text(node)})')


def forced(source: Source, test: ast.expr, *, loop: bool = False) -> Iterator[Edit]:
    """Force a condition; a loop is never made endless on purpose."""
    for text in ("False",) if loop else ("True", "False"):
        if source.text(test) != text:
            yield replace(source, test, text)


def dropped(source: Source, items: Sequence[tuple[int, int]]) -> Iterator[Edit]:
    """Leave out each item of a list separated by commas, with its comma."""
    for at, (start, end) in enumerate(items):
        if at + 1 < len(items):
            yield Edit(start, items[at + 1][0], "")
        else:
            comma = re.compile(rb"\s*,").match(source.data, end)
            yield Edit(start, comma.end() if comma else end, "")


def elements(source: Source, node: ast.Tuple | ast.List | ast.Set | ast.Dict) -> Iterator[Edit]:
    """Leave out each element of a display."""
    if isinstance(node, ast.Dict):
        keyed = zip(node.keys, node.values, strict=True)
        places = [
            (source.span(key)[0] if key else source.span(value)[0] - 2, source.span(value)[1]) for key, value in keyed
        ]
    else:
        places = [source.span(element) for element in node.elts]
    if isinstance(node, ast.Set) and len(places) == 1:
        yield replace(source, node, "set()")
    else:
        yield from dropped(source, places)


def keywords(source: Source, node: ast.Call) -> Iterator[Edit]:
    """Leave out each keyword argument."""
    positional = [source.span(argument) for argument in node.args]
    named = [source.span(keyword) for keyword in node.keywords]
    for at, edit in enumerate(dropped(source, [*positional, *named])):
        if at >= len(positional):
            yield edit
