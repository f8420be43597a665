"""What came of asking one broker for its share: a closed set of outcomes, each with its reason."""

from dataclasses import dataclass
from typing import ClassVar, Self, TypeAlias

from mcbn_protocol.messages import Refusal
from mcbn_protocol.shares import Share
from mcbn_workload.brokers.leases import Lease


@dataclass(frozen=True)
class Released:
    """The share, checked against its commitment, and how long it may be held."""

    name: ClassVar[str] = "released"
    final: ClassVar[bool] = True
    retry_after: ClassVar[None] = None
    share: Share
    lease: Lease
    audit_sequence: int

    def text(self, participant: str) -> str:
        """Say it in a sentence."""
        return f"{participant} released its share for {self.lease.seconds} s (audit record {self.audit_sequence})"


@dataclass(frozen=True)
class Refused:
    """A refusal that the participant signed over our own request: the only outcome that says it will not."""

    name: ClassVar[str] = "refused"
    refusal: Refusal
    retry_after: float | None

    @property
    def final(self) -> bool:
        """Whether asking again is of no use until somebody acts."""
        return not self.refusal.reason.transient

    def text(self, participant: str) -> str:
        """Say it in a sentence, with what to do next."""
        reason = self.refusal.reason
        title = reason.title.replace("The participant", participant).rstrip(".")
        check = f", check {self.refusal.check}" if self.refusal.check else ""
        return (
            f"{participant} refuses: {title} (signed refusal {reason.code}{check}, "
            f"correlation id {self.refusal.correlation_id}). {reason.next_step}"
        )


@dataclass(frozen=True)
class Mismatch:
    """A release that the participant signed for this very request, and that is wrong."""

    name: ClassVar[str] = "mismatch"
    final: ClassVar[bool] = True
    retry_after: ClassVar[None] = None
    reason: str

    def text(self, participant: str) -> str:
        """Say it in a sentence."""
        return f"{participant} signed a wrong release: {self.reason}"


@dataclass(frozen=True)
class Pending:
    """A 202: it says that a person decides, but nobody signed it; to be asked again with new evidence."""

    name: ClassVar[str] = "pending"
    final: ClassVar[bool] = False
    retry_after: float | None

    def text(self, participant: str) -> str:
        """Say it in a sentence."""
        return f"no valid answer from {participant} yet (an unsigned 202: a person may be deciding)"


@dataclass(frozen=True)
class NoValidAnswer:
    """Nothing that the participant signed. It may be its broker, the network, the operator, or an attacker."""

    name: ClassVar[str] = "no_valid_answer"
    reason: str
    final: bool
    retry_after: float | None = None

    def text(self, participant: str) -> str:
        """Say it in a sentence."""
        return f"no valid answer from {participant}: {self.reason}"


@dataclass(frozen=True)
class NoToken:
    """The fault is on our own side: there is no attestation token to show."""

    name: ClassVar[str] = "no_token"
    reason: str
    final: bool
    retry_after: ClassVar[None] = None

    def text(self, participant: str) -> str:
        """Say it in a sentence."""
        return f"no token to show to {participant}: {self.reason}"


Outcome: TypeAlias = Released | Refused | Mismatch | Pending | NoValidAnswer | NoToken


@dataclass(frozen=True)
class Row:
    """One line of a gathering's table. It holds no share.

    Attributes:
        participant: Who was asked.
        outcome: The outcome's name: released, refused, mismatch, pending, no_valid_answer or no_token.
        code: The refusal's code; None unless refused.
        text: The outcome in a sentence.
        seconds: From the first question to the last answer.
        attempts: How often the broker was asked.
    """

    participant: str
    outcome: str
    code: str | None
    text: str
    seconds: float
    attempts: int

    @classmethod
    def of(cls, participant: str, outcome: Outcome, *, seconds: float, attempts: int) -> Self:
        """Make the line of an outcome."""
        code = outcome.refusal.reason.code if isinstance(outcome, Refused) else None
        return cls(participant, outcome.name, code, outcome.text(participant), seconds, attempts)

    @property
    def complete(self) -> bool:
        """Whether the share was released."""
        return self.outcome == Released.name
