"""The seam between the release service and whatever verifies a kind of evidence."""

from typing import Protocol

from mcbn_broker.attestation.anchors import TrustAnchors
from mcbn_broker.attestation.result import AttestationResult


class Verifier(Protocol):
    """Verifies one kind of evidence."""

    async def verify(
        self,
        unverified_token: str,
        *,
        anchors: TrustAnchors,
        audience: str,
        nonces: tuple[str, str],
        now: int,
    ) -> AttestationResult:
        """Verify a token.

        Args:
            unverified_token: As the workload sent it.
            anchors: The issuers and roots that the manifest names for this role.
            audience: This broker's own audience (`mcbn_protocol.binding.audience`).
            nonces: Challenge and binding: exactly what the token must carry, in any order.
            now: The decision's reference time, Unix seconds.

        Raises:
            NotAuthentic: The token was not signed for this request. It spends nothing.
            KeysUnavailable: It cannot be judged now.
        """
        ...
