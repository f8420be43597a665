"""Where attestation tokens come from: the seam, and the one kind of environment there is now."""

from typing import ClassVar, Protocol

from mcbn_workload.errors import NoKeysError


class AttesterError(NoKeysError):
    """The environment gave no attestation token. `transient` says whether asking again may help."""

    code: ClassVar[str] = "attester_failed"

    def __init__(self, text: str, *, transient: bool) -> None:
        super().__init__(text)
        self.transient = transient


class Attester(Protocol):
    """What proves to a broker which image runs in which environment."""

    async def token(self, audience: str, nonces: tuple[str, ...]) -> str:
        """Return a fresh attestation token (a compact JWS) with this audience and exactly these nonces.

        Raises:
            AttesterError: No token in time, or something that is not one.
        """
        ...
