"""What can be wrong with a protocol object: one root, one class for each kind of fault, each with a stable code."""

from typing import ClassVar


class ProtocolError(Exception):
    """Root of this package's errors. `code` is stable; the text says what was found and what to do next."""

    code: ClassVar[str] = "protocol_error"


class MalformedError(ProtocolError):
    """Bytes that are not what the protocol defines: bad JSON, unknown or missing member, wrong type, range or shape."""

    code = "malformed"


class TooLargeError(MalformedError):
    """An input longer than its limit (see `limits`). Nothing of it was parsed."""

    code = "too_large"


class SignatureInvalidError(ProtocolError):
    """A signature that does not verify under the key that the roster gives to its participant."""

    code = "signature_invalid"

    def __init__(self, participant: str, what: str) -> None:
        super().__init__(
            f"the signature of {participant} on this {what} does not verify: "
            f"do not use it, and ask {participant} for the original over another road"
        )
        self.participant = participant


class RosterError(ProtocolError):
    """A roster, or a participant card, that breaks a rule of the agreement (duplicate keys, bad threshold, ...)."""

    code = "roster_invalid"


class ManifestError(ProtocolError):
    """A manifest that breaks a rule of the agreement or does not belong to this roster."""

    code = "manifest_invalid"


class SealError(ProtocolError):
    """A share could not be sealed to, or opened with, this recipient key and context."""

    code = "seal_failed"


class ShareMismatchError(ProtocolError):
    """A share that does not match the commitment which its participant signed in the manifest."""

    code = "share_mismatch"

    def __init__(self, participant: str) -> None:
        super().__init__(f"the share released by {participant} does not match its commitment in the manifest")
        self.participant = participant


class KeyScheduleError(ProtocolError):
    """Shares, a scheme or a purpose from which no key may be derived."""

    code = "key_schedule"
