"""The trust anchors of a role: whose word counts, and by which of the two kinds of key it is recognised."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from mcbn_protocol.reference_values import ConfidentialSpaceReference


@dataclass(frozen=True)
class TrustAnchors:
    """Issuers and roots that the reference values of one role name. An issuer may be in both: then either will do.

    Attributes:
        issuers: Attestation services recognised by the key set that they publish (OIDC tokens).
        roots: Attestation services recognised by a pinned root (PKI tokens): issuer to the SHA-256 of each root
            certificate's DER, 32 bytes.
    """

    issuers: frozenset[str]
    roots: Mapping[str, frozenset[bytes]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "roots", MappingProxyType(dict(self.roots)))

    @classmethod
    def of(cls, references: Iterable[ConfidentialSpaceReference]) -> Self:
        """Return the anchors that these reference values name."""
        issuers: set[str] = set()
        roots: dict[str, frozenset[bytes]] = {}
        for reference in references:
            if reference.root is None:
                issuers.add(reference.issuer)
            else:
                roots[reference.issuer] = roots.get(reference.issuer, frozenset()) | {reference.root}
        return cls(frozenset(issuers), roots)
