"""A participant's own conditions in CEL (cel.dev), as workload identity federation has them: only `true` admits.

Conditions come from the participant and are compiled when its policy is loaded. What they are compared with is
authentic, but partly chosen by the operator (arguments, environment, up to 32 KB). So their cost is bounded: a macro
walks over one list or map, and inside of it only the element may be used. So no condition costs more than a few walks
over the claims.
"""

import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcbn_broker.appraisal.findings import Finding, described

CONDITIONS_MAX: Final = 16
CONDITION_CHARS: Final = 2048
BRACKETS_MAX: Final = 32  # nested; the compiler recurses on them
MACROS_MAX: Final = 2

CONDITION_WHY: Final = "This participant wrote it: only a condition that comes to true admits."

_CLAIMS: Final = "assertion"
_TYPES: Final = frozenset({"bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"})
_FUNCTIONS: Final = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "string", "int", "uint", "double", "bytes", "bool", "dyn"}
    | {"type", "timestamp", "duration", "split", "lowerAscii", "upperAscii", "trim"}
)
_OPERATOR: Final = re.compile(r"[_@!-].*")  # as the compiler calls them: `_&&_`, `@in`, `!_`, `-_`
_LITERAL: Final = re.compile(r"""[rR][bB]?(?:'[^']*'|"[^"]*")|(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")""")
_MACRO: Final = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(\s*([A-Za-z_]\w*)\s*,")
_MACRO_LIKE: Final = re.compile(r"\.\s*(?:all|exists|exists_one|map|filter)\s*\(")
_OPENING, _CLOSING = "([{", ")]}"


class ConditionError(ValueError):
    """A condition that cannot be used; the text says why."""


@dataclass(frozen=True)
class Condition:
    """One compiled condition.

    Attributes:
        text: As the participant wrote it.
        program: The compiled form; it reads claims and nothing else: no time, no file, no environment.
    """

    text: str
    program: Any = field(repr=False, compare=False)

    def judge(self, claims: Mapping[str, Any]) -> Finding:
        """Evaluate it over a token's claims. It is total: whatever goes wrong is a refusal that says so."""
        try:
            found = self.program.execute({_CLAIMS: dict(claims)})
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  # a panic of the compiled library is no Exception
            return Finding(False, self.text, f"an error: {type(error).__name__}: {described(str(error))}")
        return Finding(found is True, self.text, lambda: described(found) if _is_json(found) else "another value")


def compile_condition(text: str) -> Condition:
    """Compile a condition.

    Raises:
        ConditionError: It is too long, could cost too much, is no CEL, or uses an unknown function or another variable
            than `assertion`.
    """
    if len(text) > CONDITION_CHARS:
        raise ConditionError(f"it has {len(text)} characters, at most {CONDITION_CHARS}")
    variables = _check_cost(_LITERAL.sub("''", text))
    try:
        program = importlib.import_module("cel").compile(text)  # not imported by brokers whose policy has no condition
    except (ValueError, RuntimeError, TypeError) as error:
        raise ConditionError(f"it is no CEL: {' '.join(str(error).split())[:200]}") from error
    unknown = set(program.variables()) - variables - _TYPES - {_CLAIMS}
    unknown |= {name for name in program.functions() if name not in _FUNCTIONS and not _OPERATOR.fullmatch(name)}
    if unknown:
        raise ConditionError(f"it uses {', '.join(sorted(unknown))}: the claims are called {_CLAIMS}")
    return Condition(text, program)


def _check_cost(code: str) -> set[str]:
    """Return the macros' variables. `code` has no literals any more, so that nothing hides in them."""
    if "'''" in code or '"' in code or "//" in code:
        raise ConditionError("comments and triple quotes are not taken")
    macros = {match.start(): match for match in _MACRO.finditer(code)}
    if len(macros) != len(_MACRO_LIKE.findall(code)):  # `all((int), ...)`: a variable that the pattern does not see
        raise ConditionError("all(), exists() and the like begin with the bare name of the element")
    if reserved := {match[1] for match in macros.values()} & (_TYPES | {_CLAIMS}):
        raise ConditionError(f"{', '.join(sorted(reserved))} cannot be an element's name")
    if len(macros) > MACROS_MAX:
        raise ConditionError(f"it has {len(macros)} of all, exists, exists_one, map and filter, at most {MACROS_MAX}")
    _check_depth(code)
    for start, match in macros.items():
        inside = _bracketed(code, code.index("(", start))
        if re.search(rf"\b{_CLAIMS}\b", inside) or _MACRO.search(inside):
            raise ConditionError(f"inside all(), exists() and the like only the element ({match[1]}) may be used")
    return {match[1] for match in macros.values()}


def _check_depth(code: str) -> None:
    depth = 0
    for character in code:
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth > BRACKETS_MAX:
            raise ConditionError(f"its brackets are nested more than {BRACKETS_MAX} deep")


def _bracketed(code: str, start: int) -> str:
    depth = 0
    for at in range(start, len(code)):
        depth += (code[at] in _OPENING) - (code[at] in _CLOSING)
        if depth == 0:
            return code[start : at + 1]
    return code[start:]


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
