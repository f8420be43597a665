"""The survivors that are known, each with the reason why no test should kill it, and how a run is judged by them."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutation.children import Outcome
from mutation.mutants import Mutant


@dataclass(frozen=True)
class Survivor:
    """One entry of the file.

    Attributes:
        module: Path below the root.
        function: As in `Mutant`.
        before: As in `Mutant`.
        after: As in `Mutant`.
        nth: As in `Mutant`.
        reason: Why it may survive.
    """

    module: str
    function: str
    before: str
    after: str
    reason: str
    nth: int = 1

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What the mutant is called in files."""
        return self.module, self.function, self.before, self.after, self.nth


def read_survivors(file: Path) -> list[Survivor]:
    """Read the file of known survivors.

    Raises:
        ValueError: An entry has no reason, stands there twice, or has another form.
    """
    entries = tomllib.loads(file.read_text(encoding="utf-8")).get("survivor", [])
    try:
        survivors = [Survivor(**entry) for entry in entries]
    except TypeError as error:
        raise ValueError(f"{file.name}: {error}") from error
    for one in survivors:
        if not one.reason.strip():
            raise ValueError(f"{file.name}: {one.after} has no reason")
    if len({one.key for one in survivors}) != len(survivors):
        raise ValueError(f"{file.name}: one survivor is there twice")
    return survivors


def problems(
    outcomes: Mapping[Mutant, Outcome], survivors: Sequence[Survivor], modules: Iterable[str], floor: float
) -> list[str]:
    """Return what is wrong with a run, one sentence each; nothing if all is well."""
    counted = set(modules)
    listed = {one.key for one in survivors if one.module in counted}
    by_key = {mutant.key: outcome for mutant, outcome in outcomes.items()}
    surviving = {key for key, outcome in by_key.items() if outcome is Outcome.SURVIVED}
    found = [f"survives and is not listed: {_words(key)}" for key in by_key if key in surviving - listed]
    found += [f"is listed and there is no such mutant: {_words(key)}" for key in sorted(listed - by_key.keys())]
    found += [f"is listed and was killed: {_words(key)}" for key in sorted((listed & by_key.keys()) - surviving)]
    reached = score(outcomes.values())
    if reached < floor:
        found.append(f"the score is {reached:.1f}%, below {floor:g}%")
    return found


def score(outcomes: Iterable[Outcome]) -> float:
    """Return how many of 100 mutants were killed; of no mutants, none."""
    all_of_them = list(outcomes)
    killed = sum(outcome is not Outcome.SURVIVED for outcome in all_of_them)
    return 100 * killed / len(all_of_them) if all_of_them else 0.0


def _words(key: tuple[str, str, str, str, int]) -> str:
    module, function, before, after, nth = key
    place = f" (place {nth})" if nth > 1 else ""
    return f"{module}, {function}{place}\n    - {before}\n    + {after}"
