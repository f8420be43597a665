"""The two ways in which verification ends without a result, and the stable names of its checks."""

from enum import StrEnum
from typing import ClassVar

from mcbn_broker.errors import EXIT_CODES, BrokerError


class TokenCheck(StrEnum):
    """What verification looks at, in this order. The name of the first check that fails goes into the refusal."""

    SIZE = "token.size"
    FORM = "token.form"
    ALGORITHM = "token.algorithm"
    HEADER = "token.header"
    AUDIENCE = "token.audience"
    ISSUER = "token.issuer"
    NONCES = "token.nonces"
    CHAIN = "token.chain"  # PKI tokens only
    KEY = "token.key"  # OIDC tokens only
    SIGNATURE = "token.signature"
    TIMES = "token.times"
    NOT_YET_VALID = "token.not_yet_valid"
    EXPIRED = "token.expired"
    AGE = "token.age"


class AttestationError(BrokerError):
    """Root of this package's errors."""

    code: ClassVar[str] = "attestation_failed"
    exit_code: ClassVar[int] = EXIT_CODES["refused"].number


class NotAuthentic(AttestationError):  # noqa: N818  # an answer about the token, not a failure of this program
    """The token is not what the attestation service signed for this request.

    Attributes:
        check: The failing check; its name may be told to the caller.
        detail: The full reason, printable and short, without the token. It belongs in the log and the audit.
    """

    code = "token_not_authentic"

    def __init__(self, check: TokenCheck, detail: str) -> None:
        super().__init__(f"{check.value}: {detail}")
        self.check = check
        self.detail = detail


class KeysUnavailable(AttestationError):  # noqa: N818  # an answer about the attestation service, which may soon recover
    """There is no key set by which the token could be judged now. Nothing was found wrong with the token.

    Attributes:
        retry_after: Whole seconds after which the same token may be judged, at least 1.
        detail: The full reason, for the log and the audit.
    """

    code = "keys_unavailable"

    def __init__(self, retry_after: int, detail: str) -> None:
        super().__init__(f"{detail}; try again in {retry_after} s")
        self.retry_after = retry_after
        self.detail = detail
