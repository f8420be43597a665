"""Keeps outcomes between runs, so that an interrupted one goes on.

An outcome counts as long as its module and the code that judges are the same and so is what decided it: the file of the
test that killed the mutant, or all tests where none did.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from mutation.children import Outcome
from mutation.mutants import Mutant
from mutation.plan import Plan

_SAVE_EACH: Final = 20
_JUDGES: Final = b"".join(
    Path(__file__).with_name(name).read_bytes() for name in ("children.py", "edits.py", "sessions.py")
)


class Results:
    """The outcomes of one plan.

    Args:
        file: Where they are kept.
        plan: Whose; its modules and tests are read now at the latest.

    Attributes:
        folder: Where everything is kept that may be made again.
        digest: SHA-256 of all that is mutated and all that tests it.
    """

    def __init__(self, file: Path, plan: Plan) -> None:
        self._file = file
        self.folder = file.parent
        self.folder.mkdir(parents=True, exist_ok=True)
        self._deciding = cache(plan.tests_digest)
        self._modules = {
            module: hashlib.sha256(f"{module}\0".encode() + data + _JUDGES).hexdigest()
            for module, data in plan.sources.items()
        }
        together = "".join([self._deciding(""), *self._modules.values()])
        self.digest = hashlib.sha256(together.encode()).hexdigest()
        self._unsaved = 0
        self.load()

    def load(self) -> None:
        """Read what another process has written."""
        kept: Mapping[str, Any] = json.loads(self._file.read_text()) if self._file.is_file() else {}
        self._outcomes: dict[str, dict[str, list[str]]] = {
            digest: kept.get(digest, {}) for digest in self._modules.values()
        }

    def save(self) -> None:
        """Write everything, in one step."""
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(self._outcomes))
        new.replace(self._file)
        self._unsaved = 0

    def note(self, mutant: Mutant, outcome: Outcome, test: str) -> None:
        """Keep one outcome, and the test that killed, if one did."""
        self._outcomes[self._modules[mutant.module]][_name(mutant)] = [outcome.value, test, self._deciding(test)]
        self._unsaved += 1
        if self._unsaved >= _SAVE_EACH:
            self.save()

    def get(self, mutant: Mutant) -> Outcome | None:
        """Return what came of a mutant, if it was judged."""
        outcome, test, deciding = self._outcomes[self._modules[mutant.module]].get(_name(mutant), ("", "", ""))
        return Outcome(outcome) if deciding and deciding == self._deciding(test) else None


def _name(mutant: Mutant) -> str:
    return json.dumps(mutant.key[1:])
