"""Writes the page of a complete run."""

from collections.abc import Iterable, Mapping, Sequence

from mutation.children import Outcome
from mutation.mutants import Mutant
from mutation.survivors import Survivor, score

_HEAD = """\
<!-- Made by `make mutants`. Do not edit. -->

# Mutants

`make mutants` puts small faults, one at a time, into the modules that judge a token and seal a share, and runs the
tests of those modules against each. A fault that no test notices has survived: there is a hole in the tests, or the
fault changes nothing. At least {floor:g}% of all together must be noticed (killed by a failing test, or timed out, as a
test never ended), and each survivor stands below with its reason.

The faults: a comparison becomes its neighbour; `and` and `or` are swapped and operands left out; `not` and minus
signs go; conditions are forced; numbers, texts and truth values change, those of default arguments too; arithmetic
changes; a function returns `None`; a `raise`, a call or the change of an attribute is left out; an element of a tuple,
list, set or dictionary or a keyword argument is left out.

Left as they are, because a test of them would only repeat them:

- docstrings, type annotations, `__all__`, `__slots__`;
- the texts of raised exceptions and of logs: which exception, with which stable code, is what callers act on;
- the sentences that say why a check matters.

"""


def page(
    outcomes: Mapping[Mutant, Outcome], modules: Iterable[str], survivors: Sequence[Survivor], floor: float
) -> str:
    """Return the page in Markdown."""
    text = _HEAD.format(floor=floor) + _row("module", "mutants", "killed", "timed out", "survivors", "score")
    text += _row("---", *["---:"] * 5)
    for module in modules:
        found = [outcome for mutant, outcome in outcomes.items() if mutant.module == module]
        if found:
            text += _row(f"`{module}`", *_numbers(found))
    text += _row("**all**", *_numbers(list(outcomes.values())))
    text += "\n## Survivors\n"
    for module in modules:
        known = [one for one in survivors if one.module == module]
        if known:
            text += f"\n### `{module}`\n" + "".join(_survivor(one) for one in known)
    return text


def _numbers(found: Sequence[Outcome]) -> list[str]:
    counts = [str(found.count(one)) for one in (Outcome.KILLED, Outcome.TIMED_OUT, Outcome.SURVIVED)]
    return [str(len(found)), *counts, f"{score(found):.1f}%"]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |\n"


def _survivor(one: Survivor) -> str:
    return f"\n`{one.function}`: {one.reason}\n\n```diff\n- {one.before}\n+ {one.after}\n```\n"
