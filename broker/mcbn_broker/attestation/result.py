"""The attestation result: the claims of a token after its signature, audience, nonces and times were verified."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from mcbn_protocol.reference_values import EvidenceKind


@dataclass(frozen=True)
class AttestationResult:
    """What an attestation service says about one workload's environment. Authentic, but not yet appraised.

    Attributes:
        kind: The kind of evidence, which decides how `claims` are read.
        issuer: The attestation service that signed.
        root: SHA-256 of the pinned root certificate (DER) that vouches for the signature of a PKI token, 32 bytes. None
            for an OIDC token: then the issuer's published key set vouches.
        claims: The token's claims, as strict JSON gave them.
    """

    kind: EvidenceKind
    issuer: str
    root: bytes | None
    claims: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "claims", MappingProxyType(dict(self.claims)))

    @property
    def instance_id(self) -> str:
        """What counts as one VM for leases; "" if the token names none, which appraisal never lets pass."""
        value: object = self.claims.get("submods")
        for name in ("gce", "instance_id"):
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, str) else ""
