"""The one table from errors to answers: every refusal leaves as an RFC 9457 problem with a stable code."""

from typing import Final

from mcbn_broker.api.http import Answer
from mcbn_broker.errors import BrokerError, Refused, StorageError
from mcbn_protocol.errors import MalformedError, ProtocolError, TooLargeError
from mcbn_protocol.messages import Problem
from mcbn_protocol.refusals import REFUSAL_CODES, RefusalCode

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 5
_CLOSING: Final = frozenset({"too_large", "timeout", "overloaded", "rate_limited"})
"""After these the connection is closed: the client may still be sending what nobody will read, or asks too often."""

_CODES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (TooLargeError, "too_large"),
    (MalformedError, "malformed"),
    (StorageError, "storage_unavailable"),
    (TimeoutError, "timeout"),
    (ProtocolError, "malformed"),
    (BrokerError, "internal"),
)


def reason_of(error: Exception) -> RefusalCode:
    """Return the refusal code under which an error leaves the broker; what is not in the table is `internal`."""
    if isinstance(error, Refused):
        return error.reason
    return REFUSAL_CODES[next((code for kind, code in _CODES if isinstance(error, kind)), "internal")]


def problem(reason: RefusalCode, *, correlation_id: str, refused: Refused | None = None) -> Answer:
    """Return the answer for a refusal; its signed part is there if the challenge was valid.

    Args:
        reason: The row of the refusal table.
        correlation_id: Finds the full reason in the audit and the log.
        refused: The release service's refusal, if it was the one to refuse.
    """
    body = Problem(
        reason=reason,
        check=None if refused is None else refused.check,
        correlation_id=correlation_id,
        unverified_refusal=None if refused is None else refused.refusal,
    )
    answer = Answer(body.to_bytes(), media_type=MEDIA_TYPE, status=reason.status)
    retry_after = refused.retry_after if refused is not None else None
    if reason.status in {429, 503}:
        answer.headers["retry-after"] = str(retry_after or RETRY_AFTER_SECONDS)
    if reason.code in _CLOSING:
        answer.headers["connection"] = "close"
    return answer
