"""The page of attacks: what the tests of this folder say of themselves, and what a run of them came to."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FAMILIES: Final = (
    "Tokens and keys",
    "Claims",
    "Binding and replay",
    "Brokers as adversaries",
    "Operator as adversary",
    "Channel",
)
ACTORS: Final[Mapping[str, str]] = {
    "Frank": "operates the machines, the network and what the workloads are told from outside.",
    "Mallory": "runs one participant's broker or workload, or stands in its place.",
    "Bob": "is an honest participant; here his broker errs, or is used against Alice.",
    "Dave": "was a participant, and is not any longer.",
    "Somebody": "has got hold of what is named, or is on the network.",
    "Nobody attacks:": "the control that the others are compared with.",
}
"""Every sentence begins with one of these."""

_KNOWN_AS: Final = "Known as: "
_TWO_SENTENCES: Final = re.compile(r"[.!?] +[A-Z]")
_HEAD: Final = """\
<!-- Made by `make attacks` from its own run. Do not edit. -->

# Attacks, and that they fail

`make attacks` writes this page after a run in which every test passed and none was skipped or left out.
Each row is one test; its sentence is the first one of the test's docstring, and says who tries what.
*Known as* is what the attack is called in print, with the standard or an advisory that describes it.
*Cases* are the variants that ran; *passed*: the attacker got nothing, and who is genuine was served where one asked.
`tests/architecture/test_attack_table.py` compares the rows with the tests, without running them.

"""


class AttackTableError(Exception):
    """A test that does not say who tries what. The text says where, and how to mend it."""


@dataclass(frozen=True)
class Attack:
    """One test, by what its module and its docstring say.

    Attributes:
        family: One of `FAMILIES`.
        module: The file's name.
        about: The first line of the module's docstring.
        test: The function's name.
        sentence: Who tries what.
        known_as: Its name in print, with the source; "" if it has none.
    """

    family: str
    module: str
    about: str
    test: str
    sentence: str
    known_as: str

    @property
    def name(self) -> str:
        """How a report names it, without parameters."""
        return f"{self.module}::{self.test}"


def read_attacks(folder: Path) -> tuple[Attack, ...]:
    """Return every test of the folder in the page's order: by family, module, and place in it.

    Raises:
        AttackTableError: A module without `FAMILY`, or a test without its sentence.
    """
    attacks = [one for path in sorted(folder.glob("test_*.py")) for one in _module(path)]
    return tuple(sorted(attacks, key=lambda one: FAMILIES.index(one.family)))


def _module(path: Path) -> Iterator[Attack]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    family, about = _family(tree, path.name), (ast.get_docstring(tree) or "").partition("\n")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            sentence, known_as = _words(ast.get_docstring(node) or "", f"{path.name}::{node.name}")
            yield Attack(family, path.name, about, node.name, sentence, known_as)


def _family(tree: ast.Module, name: str) -> str:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(one, ast.Name) and one.id == "FAMILY" for one in targets):
                if node.value.value in FAMILIES:
                    return str(node.value.value)
                break
    raise AttackTableError(f"{name}: give it FAMILY = one of {', '.join(FAMILIES)}")


def _words(docstring: str, name: str) -> tuple[str, str]:
    """The sentence, and what follows as `Known as: ...`."""
    sentence, *rest = (" ".join(part.split()) for part in docstring.split("\n\n"))
    if not sentence.startswith(tuple(ACTORS)) or not sentence.endswith(".") or _TWO_SENTENCES.search(sentence):
        wanted = ", ".join(one.rstrip(":") for one in ACTORS)
        raise AttackTableError(f"{name}: its docstring must begin with one sentence about one of {wanted}")
    if len(rest) > 1 or not all(one.startswith(_KNOWN_AS) and one.endswith(".") for one in rest):
        raise AttackTableError(f"{name}: after the sentence there may be one paragraph, '{_KNOWN_AS}...'")
    return sentence, "".join(rest).removeprefix(_KNOWN_AS)


def page(attacks: tuple[Attack, ...], cases: Mapping[str, int]) -> str:
    """Return the page of a run in which every attack passed.

    Args:
        attacks: From `read_attacks`.
        cases: How many variants ran, by `Attack.name`.
    """
    actors = "".join(f"- **{name.rstrip(':')}**: {text}\n" for name, text in ACTORS.items())
    families = [one for one in FAMILIES if any(attack.family == one for attack in attacks)]
    total = ("all", str(len(attacks)), str(sum(cases[one.name] for one in attacks)))
    rows = [_count(family, attacks, cases) for family in families]
    summary = _table(("family", "tests", "cases"), [*rows, total])
    return f"{_HEAD}{actors}\n{summary}" + "".join(_section(family, attacks, cases) for family in families)


def _count(family: str, attacks: tuple[Attack, ...], cases: Mapping[str, int]) -> tuple[str, ...]:
    names = [one.name for one in attacks if one.family == family]
    return family, str(len(names)), str(sum(cases[name] for name in names))


def _section(family: str, attacks: tuple[Attack, ...], cases: Mapping[str, int]) -> str:
    text = f"\n## {family}\n"
    modules = dict.fromkeys((one.module, one.about) for one in attacks if one.family == family)
    for module, about in modules:
        mine = [one for one in attacks if one.module == module]
        text += f"\n### [{module}](../../tests/attacks/{module})\n\n{about}\n\n"
        text += _table(("test", "who tries what", "known as", "cases", "outcome"), [row(one, cases) for one in mine])
    return text


def row(attack: Attack, cases: Mapping[str, int]) -> tuple[str, ...]:
    """Return an attack's cells in the page."""
    return f"`{attack.test}`", attack.sentence, attack.known_as, str(cases[attack.name]), "passed"


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
