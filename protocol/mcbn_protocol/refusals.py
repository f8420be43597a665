"""The one table of refusal codes: HTTP status, meaning, and what the reader should do next."""

from dataclasses import dataclass
from typing import Final

from mcbn_protocol.errors import MalformedError


@dataclass(frozen=True)
class RefusalCode:
    """One way in which a broker says no.

    Attributes:
        code: Stable; programs compare it.
        status: HTTP status (RFC 9110).
        title: What happened, in one sentence.
        next_step: What whoever runs the workload should do.
        transient: Whether the same request, made anew, may succeed without anybody acting.
    """

    code: str
    status: int
    title: str
    next_step: str
    transient: bool = False


_TABLE: Final = (
    RefusalCode(
        code="malformed",
        status=400,
        title="The request is not what the protocol defines.",
        next_step="Compare the versions of workload and broker.",
    ),
    RefusalCode(
        code="challenge_not_issued",
        status=401,
        title="This broker did not issue this challenge for this role and manifest.",
        next_step="Ask for a new challenge; if it goes on, the broker was restored or its challenge key replaced.",
    ),
    RefusalCode(
        code="token_not_authentic",
        status=401,
        title="The attestation token is not authentic, not fresh, or not meant for this request.",
        next_step="See the failing check's name; the broker's audit has the details.",
    ),
    RefusalCode(
        code="appraisal_failed",
        status=403,
        title="The token is authentic, but what it says differs from the manifest's reference values.",
        next_step="See the failing check's name; run the agreed image in the agreed way.",
    ),
    RefusalCode(
        code="consent_paused",
        status=403,
        title="The participant has paused its consent.",
        next_step="Ask the participant; only it can allow again.",
    ),
    RefusalCode(
        code="manifest_not_accepted",
        status=403,
        title="The broker does not release under this manifest.",
        next_step="Ask the participant whether it accepted this epoch's manifest.",
    ),
    RefusalCode(
        code="manifest_not_valid_now",
        status=403,
        title="The manifest is not valid at this time.",
        next_step="Compare the clocks; or let the participants open a new epoch.",
    ),
    RefusalCode(
        code="instances_exceeded",
        status=403,
        title="As many VMs as the manifest allows hold a lease for this role.",
        next_step="Stop one, wait until its lease ends, or agree on a higher number.",
        transient=True,
    ),
    RefusalCode(
        code="not_found",
        status=404,
        title="There is nothing at this address.",
        next_step="Check the broker's URL.",
    ),
    RefusalCode(
        code="method_not_allowed",
        status=405,
        title="This address does not answer this method.",
        next_step="Check the broker's URL.",
    ),
    RefusalCode(
        code="timeout",
        status=408,
        title="The request did not arrive in time.",
        next_step="Check the network between the workload and the broker.",
        transient=True,
    ),
    RefusalCode(
        code="challenge_used",
        status=409,
        title="This challenge was already used.",
        next_step="Ask for a new challenge.",
    ),
    RefusalCode(
        code="challenge_expired",
        status=410,
        title="This challenge has expired.",
        next_step="Ask for a new challenge; check why the token took so long.",
        transient=True,
    ),
    RefusalCode(
        code="too_large",
        status=413,
        title="The request is larger than the broker reads.",
        next_step="Compare the versions of workload and broker.",
    ),
    RefusalCode(
        code="unsupported_media_type",
        status=415,
        title="The request is not application/json.",
        next_step="Compare the versions of workload and broker.",
    ),
    RefusalCode(
        code="not_in_manifest",
        status=422,
        title="The KEM or kind of evidence is not among the manifest's.",
        next_step="Use one that the manifest lists.",
    ),
    RefusalCode(
        code="rate_limited",
        status=429,
        title="Too many requests.",
        next_step="Wait as Retry-After says.",
        transient=True,
    ),
    RefusalCode(
        code="internal",
        status=500,
        title="The broker failed.",
        next_step="Give the correlation id to the participant.",
        transient=True,
    ),
    RefusalCode(
        code="keys_unavailable",
        status=503,
        title="The broker has no fresh key set of the attestation service.",
        next_step="Wait; the participant sees the reason in its log.",
        transient=True,
    ),
    RefusalCode(
        code="storage_unavailable",
        status=503,
        title="The broker cannot write its audit, so it releases nothing.",
        next_step="Wait; the participant sees the reason in its log.",
        transient=True,
    ),
    RefusalCode(
        code="overloaded",
        status=503,
        title="The broker is busy or stopping.",
        next_step="Wait as Retry-After says.",
        transient=True,
    ),
)

REFUSAL_CODES: Final = {one.code: one for one in _TABLE}


def refusal_code(code: str) -> RefusalCode:
    """Return a row of the table.

    Raises:
        MalformedError: The code is not in the table.
    """
    if code not in REFUSAL_CODES:
        raise MalformedError("unknown refusal code")
    return REFUSAL_CODES[code]
