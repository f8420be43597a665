"""Where attestation tokens come from: the seam, and the one kind of environment there is now."""

from collections.abc import Iterable
from enum import StrEnum
from typing import ClassVar, Protocol

from mcbn_protocol.reference_values import ConfidentialSpaceReference
from mcbn_workload.errors import NoKeysError


class TokenKind(StrEnum):
    """By what a broker recognises the attestation service in a token."""

    OIDC = "OIDC"  # the key set that it publishes
    PKI = "PKI"  # a chain in the token, up to a root that the manifest pins


def token_kind(references: Iterable[ConfidentialSpaceReference]) -> TokenKind:
    """Return the kind that a role's reference values ask for: PKI where each names a root, else OIDC."""
    return TokenKind.PKI if all(one.root is not None for one in references) else TokenKind.OIDC


class AttesterError(NoKeysError):
    """The environment gave no attestation token. `transient` says whether asking again may help."""

    code: ClassVar[str] = "attester_failed"

    def __init__(self, text: str, *, transient: bool) -> None:
        super().__init__(text)
        self.transient = transient


class Attester(Protocol):
    """What proves to a broker which image runs in which environment."""

    async def token(self, kind: TokenKind, audience: str, nonces: tuple[str, ...]) -> str:
        """Return a fresh attestation token (a compact JWS) with this audience and exactly these nonces.

        Raises:
            AttesterError: No token in time, or something that is not one.
        """
        ...
