"""Finds every mutant of a module.

Not mutated, because no behaviour hangs on it or none that a program could notice:
docstrings, type annotations and aliases, `__all__` and `__slots__`, the texts of raised exceptions, and the texts that
say why a check matters (names ending in `WHY`, and the arguments listed in `PROSE`).
"""

import ast
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from mutation import edits
from mutation.edits import Edit, Source

MODULE_LEVEL: Final = "<module>"
PROSE: Final[dict[str, tuple[int, ...]]] = {"Account": (1,), "Check": (2,), "LimitCheck": (2,)}
"""Calls with an argument, by place, that is prose for a person."""

_UNMUTATED_NAMES: Final = re.compile(r"__all__|__slots__|(?:[A-Z_]*_)?WHYS?")


@dataclass(frozen=True)
class Mutant:
    """One small fault.

    Attributes:
        module: Path below the root.
        function: Dotted name of the innermost function or class around it, or `MODULE_LEVEL`.
        outermost: Dotted name of the outermost function, or None where it is in none and works at import.
        before: The lines it touches, with single spaces.
        after: The same lines with the fault.
        nth: 1, or more where the same change can be made at several places of one function.
        lines: The first and last line of the statement around it.
        edit: The change.
    """

    module: str
    function: str
    outermost: str | None
    before: str
    after: str
    nth: int
    lines: tuple[int, int]
    edit: Edit

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What it is called in files."""
        return self.module, self.function, self.before, self.after, self.nth


def find_mutants(module: str, data: bytes) -> list[Mutant]:
    """Return a module's mutants, each of them another program that compiles, in the order of the text."""
    source = Source(data)
    finder = _Finder(source)
    finder.visit(ast.parse(data))
    seen = {ast.dump(ast.parse(data))}
    counts: dict[tuple[str, str, str], int] = {}
    found = []
    for scope, outermost, lines, edit in sorted(finder.found, key=lambda one: one[3]):
        form = _form(source.replaced(edit))
        if form is None or form in seen:
            continue
        seen.add(form)
        before, after = source.lines_around(edit)
        counts[scope, before, after] = nth = counts.get((scope, before, after), 0) + 1
        found.append(Mutant(module, scope, outermost, before, after, nth, lines, edit))
    return found


def _form(data: bytes) -> str | None:
    try:
        return ast.dump(ast.parse(data))
    except SyntaxError:
        return None


class _Finder(ast.NodeVisitor):
    """Walks a module and keeps scope, outermost function, lines and edit of each change."""

    def __init__(self, source: Source) -> None:
        self.found: list[tuple[str, str | None, tuple[int, int], Edit]] = []
        self._source = source
        self._scope: list[str] = []
        self._outermost: str | None = None
        self._lines = (1, 1)
        self._prose = False

    def _add(self, changes: Iterator[Edit]) -> None:
        scope = ".".join(self._scope) or MODULE_LEVEL
        self.found.extend((scope, self._outermost, self._lines, edit) for edit in changes)

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if isinstance(body, list) else node.end_lineno or node.lineno
            self._lines = (node.lineno, max(last, node.lineno))
        super().visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._lines = (node.lineno, node.lineno)
        self.generic_visit(node)

    @contextmanager
    def _as_prose(self) -> Iterator[None]:
        before, self._prose = self._prose, True
        yield
        self._prose = before

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        defaults = [default for default in (*node.args.defaults, *node.args.kw_defaults) if default is not None]
        for outside in (*node.decorator_list, *defaults):
            self.visit(outside)
        self._scope.append(node.name)
        before = self._outermost
        self._outermost = before or ".".join(self._scope)
        for statement in node.body:
            self.visit(statement)
        self._outermost = before
        self._scope.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = _function  # noqa: N815  # names that ast looks for

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for outside in (*node.decorator_list, *node.keywords):
            self.visit(outside)
        self._scope.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self._scope.pop()

    def visit_Import(self, node: ast.Import) -> None:
        """Nothing to change."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Nothing to change."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        names = {one.id for one in (node.target, node.annotation) if isinstance(one, ast.Name)}
        if node.value is not None and "TypeAlias" not in names and not _unmutated(node.target):
            self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(_unmutated(target) for target in node.targets):
            return
        if self._outermost and isinstance(node.targets[0], ast.Attribute | ast.Subscript):
            self._add(iter([edits.replace(self._source, node, "pass")]))
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._add(iter([edits.replace(self._source, node, "pass")]))
        self._add(edits.arithmetic(self._source, node))
        self.visit(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self._add(iter([edits.replace(self._source, node, "pass")]))
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._add(iter([edits.replace(self._source, node, "pass")]))
        if isinstance(node.exc, ast.Call):
            with self._as_prose():
                self.visit(node.exc)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            self._add(iter([edits.replace(self._source, node.value, "None")]))
            self.visit(node.value)

    def visit_If(self, node: ast.If | ast.IfExp) -> None:
        self._add(edits.forced(self._source, node.test))
        self.generic_visit(node)

    visit_IfExp = visit_If  # noqa: N815  # as above

    def visit_While(self, node: ast.While) -> None:
        self._add(edits.forced(self._source, node.test, loop=True))
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._add(edits.forced(self._source, test))
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        self._add(edits.comparisons(self._source, node))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._add(edits.connectives(self._source, node))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        self._add(edits.unary(self._source, node))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._add(edits.arithmetic(self._source, node))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if not (self._prose and isinstance(node.value, str)):
            self._add(edits.constant(self._source, node))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        if not self._prose:
            self._add(edits.formatted(self._source, node))

    def _display(self, node: ast.Tuple | ast.List | ast.Set | ast.Dict) -> None:
        if not isinstance(getattr(node, "ctx", None), ast.Store):
            self._add(edits.elements(self._source, node))
            self.generic_visit(node)

    visit_Tuple = visit_List = visit_Set = visit_Dict = _display  # noqa: N815  # as above

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)
        if isinstance(node.slice, ast.Tuple):  # the arguments of a generic type: to leave one out changes only types
            for element in node.slice.elts:
                self.visit(element)
        else:
            self.visit(node.slice)

    def visit_Call(self, node: ast.Call) -> None:
        self._add(edits.keywords(self._source, node))
        self.visit(node.func)
        places = PROSE.get(node.func.id, ()) if isinstance(node.func, ast.Name) else ()
        for place, argument in enumerate(node.args):
            if place in places:
                with self._as_prose():
                    self.visit(argument)
            else:
                self.visit(argument)
        for keyword in node.keywords:
            self.visit(keyword.value)


def _unmutated(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and _UNMUTATED_NAMES.fullmatch(target.id) is not None
