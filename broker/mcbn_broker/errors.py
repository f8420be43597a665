"""The root of this package's errors, and the exit codes of `mcbn-broker`."""

from dataclasses import dataclass
from typing import ClassVar, Final

from mcbn_protocol.refusals import RefusalCode
from mcbn_protocol.signatures import Envelope


@dataclass(frozen=True)
class ExitCode:
    """What `mcbn-broker` returns to its caller. The numbers are stable."""

    number: int
    meaning: str


EXIT_CODES: Final = {
    "ok": ExitCode(0, "Done."),
    "failed": ExitCode(1, "The program itself failed; the text says how to report it."),
    "usage": ExitCode(
        2,
        "The command line, the environment or a setting is wrong or lacks something, such as the key-encryption key's "
        "place; or a file that was named cannot be read or written. Nothing was changed.",
    ),
    "not_ready": ExitCode(3, "A step is missing first, such as init; or another serve is running."),
    "refused": ExitCode(
        4, "A card, roster, manifest, signature, passphrase or token was refused. Nothing was changed."
    ),
    "verification": ExitCode(5, "The audit does not verify; the text names the first bad record."),
    "storage": ExitCode(6, "The database cannot be read or written."),
    "keys": ExitCode(
        7,
        "The file of the key-encryption key, a sealed key or the anchor is missing, unreadable, open to others, in the "
        "wrong place, or does not open.",
    ),
    "findings": ExitCode(8, "`policy lint` found dangers or warnings. Nothing was changed."),
    "unavailable": ExitCode(
        9,
        "Cloud KMS, or whoever gives credentials for it, did not answer or was overloaded. The same may work later: "
        "systemd starts the broker again.",
    ),
}  # fmt: skip
"""The one table of exit codes: name -> number and meaning."""


class BrokerError(Exception):
    """Root of this package's errors.

    `code` is stable and fit for programs; the text says what was found and what to do next, and never holds a secret.
    """

    code: ClassVar[str] = "broker_error"
    exit_code: ClassVar[int] = EXIT_CODES["failed"].number


class UsageError(BrokerError):
    """A command line or a setting that cannot be right. Nothing was changed."""

    code = "usage"
    exit_code = EXIT_CODES["usage"].number


class NotReadyError(BrokerError):
    """Something that has to be done first was not done yet, or is being done by another process."""

    code = "not_ready"
    exit_code = EXIT_CODES["not_ready"].number


class CeremonyError(BrokerError):
    """A document of the set-up that this participant must not accept or make. Nothing was changed."""

    code = "ceremony_refused"
    exit_code = EXIT_CODES["refused"].number


class AuditError(BrokerError):
    """An audit chain that does not verify. `sequence` is the first bad record."""

    code = "audit_invalid"
    exit_code = EXIT_CODES["verification"].number

    def __init__(self, sequence: int, problem: str) -> None:
        super().__init__(f"audit record {sequence}: {problem}")
        self.sequence = sequence
        self.problem = problem


class StorageError(BrokerError):
    """The database cannot be opened, read or written. What was being written was not."""

    code = "storage_unavailable"
    exit_code = EXIT_CODES["storage"].number


class LockedError(StorageError):
    """Another process, such as the command line, is just writing to the database. Nothing was changed."""


class KeystoreError(BrokerError):
    """A key file or the anchor is missing, unreadable, exposed to others, or does not open."""

    code = "keystore_invalid"
    exit_code = EXIT_CODES["keys"].number


class Refused(BrokerError):  # noqa: N818  # an answer of the protocol (its noun is `Refusal`), not a failure of this program
    """The broker says no to a workload's request.

    Attributes:
        reason: The row of the refusal table, all that the caller gets to know besides `check`.
        check: The failing check's name, for `appraisal_failed` and `token_not_authentic`.
        refusal: The signed refusal, once the request's challenge was found to be ours; else None.
        retry_after: Seconds after which the same may succeed, or None.
        detail: The full reason. It belongs in the log and the audit, never in an answer.
        correlation_id: The request's, if the refusal was made with one.
    """

    code = "refused"
    exit_code = EXIT_CODES["refused"].number

    def __init__(
        self,
        reason: RefusalCode,
        *,
        detail: str,
        check: str | None = None,
        refusal: Envelope | None = None,
        retry_after: int | None = None,
        correlation_id: str | None = None,
    ) -> None:
        super().__init__(f"{reason.title} {reason.next_step}")
        self.reason = reason
        self.check = check
        self.refusal = refusal
        self.retry_after = retry_after
        self.detail = detail
        self.correlation_id = correlation_id
