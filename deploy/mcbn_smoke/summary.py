"""The report that stays: what came of each act, and the two tokens, redacted."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcbn_protocol import __version__
from mcbn_simulator.demo.outcomes import Outcome


@dataclass(kw_only=True)
class Summary:
    """Everything that is worth keeping of a smoke test. It names no project, VM, address or account.

    Attributes:
        hwmodel: The hardware.
        debug: Whether it was the debug image of Confidential Space.
        digests: By role, the image's.
        outcomes: The acts that were played.
        tokens: By role, redacted.
        failure: Why it could not go on, where no act says so.
    """

    hwmodel: str = ""
    debug: bool = False
    digests: Mapping[str, str] = field(default_factory=dict)
    outcomes: Sequence[Outcome] = ()
    tokens: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None

    def write(self, path: Path, *, passed: bool, now: float) -> None:
        """Write it as JSON.

        Args:
            path: Where to.
            passed: Whether every act went as expected.
            now: Unix seconds.
        """
        members = {
            "mcbn": __version__,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            "passed": passed,
            "failure": self.failure,
            "hwmodel": self.hwmodel,
            "debug": self.debug,
            "digests": dict(self.digests),
            "acts": [_without_log(one) for one in self.outcomes],
            "tokens": dict(self.tokens),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(members, indent=2) + "\n", encoding="utf-8")


def _without_log(outcome: Outcome) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(outcome.to_json())
    members["facts"].pop("log", None)  # a VM's own words, which may name whose it is
    return members
