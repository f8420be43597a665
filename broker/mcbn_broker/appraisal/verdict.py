"""The verdict of an appraisal: every check with what it expected and what it found."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final, NamedTuple

from mcbn_broker.appraisal.findings import Finding, Words
from mcbn_broker.errors import EXIT_CODES, BrokerError


class CheckResult(NamedTuple):
    """What one check said.

    Attributes:
        name: Stable; goes into refusals.
        finding: Whether the token passes, and both sides in words.
        why: Why it matters, in one sentence.
    """

    name: str
    finding: Finding
    why: str

    @property
    def passed(self) -> bool:
        """Whether the token passes it."""
        return self.finding.passed

    @property
    def expected(self) -> str:
        """What it asked for, printable and short."""
        return _text(self.finding.expected)

    @property
    def found(self) -> str:
        """What the token says, printable and short; `missing` if it says nothing."""
        return _text(self.finding.found)


def _text(words: Words) -> str:
    return words if isinstance(words, str) else words()


_NOTHING_CHECKED: Final = CheckResult(
    "references", Finding(passed=False, expected="at least one reference value and one check", found="none"),
    why="A token that was compared with nothing has passed nothing.",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What an appraisal came to, for the reference value that fits best.

    Attributes:
        checks: Every check, most dangerous first. Never empty: without any check there is one that failed.
        reference: Which of the role's reference values (from 0) `checks` is about, or None if there were none.
        unknown_claims: Claims that this program does not know, by path. They are to be counted and logged.
    """

    checks: tuple[CheckResult, ...]
    reference: int | None
    unknown_claims: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.checks:
            object.__setattr__(self, "checks", (_NOTHING_CHECKED,))

    @property
    def passed(self) -> bool:
        """Whether the workload is what was agreed."""
        return not self.failures

    @cached_property
    def failures(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def first_failure(self) -> CheckResult | None:
        """The most dangerous of the checks that failed, or None if all passed."""
        return next(iter(self.failures), None)

    def require_passed(self) -> None:
        """Return only if every check passed.

        Raises:
            AppraisalFailed: At least one failed.
        """
        if not self.passed:
            raise AppraisalFailed(self)


class AppraisalFailed(BrokerError):  # noqa: N818  # an answer about the workload, not a failure of this program
    """The token is authentic, but what it says is not what was agreed. It carries all that differs.

    Attributes:
        verdict: Every check.
        check: The name of the most dangerous one that failed; it may be told to the caller.
    """

    code: ClassVar[str] = "appraisal_failed"
    exit_code: ClassVar[int] = EXIT_CODES["refused"].number

    def __init__(self, verdict: Verdict) -> None:
        failures = "; ".join(f"{one.name}: expected {one.expected}, found {one.found}" for one in verdict.failures)
        super().__init__(failures)
        self.verdict = verdict
        self.check = verdict.failures[0].name
