"""The manifest's terms for mutual TLS: which keys both ends derive for their certificates."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from mcbn_protocol.encoding import JsonObject, JsonValue
from mcbn_protocol.errors import ManifestError
from mcbn_protocol.fields import Fields
from mcbn_protocol.rsa_schemes import RsaScheme

_BITS_MAX = 4096


class LeafKind(StrEnum):
    """The kind of key in the certificates."""

    RSA = "rsa"
    ED25519 = "ed25519"


@dataclass(frozen=True)
class MutualTlsTerms:
    """How certificates' keys follow from the epoch secret.

    Attributes:
        leaf: The kind of key.
        scheme: How an RSA key follows from its seed; None for Ed25519, whose seed is the key.
        bits: The RSA key's size; None for Ed25519.
        insecure_shared_key: Whether both roles have one key, as the oldest systems did: then a client can play server.
        insecure_rsa_scheme: Whether the scheme may be one that exists for compatibility only.
    """

    leaf: LeafKind
    scheme: RsaScheme | None
    bits: int | None
    insecure_shared_key: bool = False
    insecure_rsa_scheme: bool = False

    def __post_init__(self) -> None:
        for rule, broken in self._rules():
            if broken:
                raise ManifestError(f"manifest.mutual_tls: {rule}")

    def _rules(self) -> list[tuple[str, bool]]:
        rsa = self.leaf is LeafKind.RSA
        legacy = self.scheme is not None and self.scheme.legacy
        return [
            ("rsa needs scheme and bits, and ed25519 has neither", rsa != (self.scheme is not None)),
            ("rsa needs scheme and bits, and ed25519 has neither", rsa != (self.bits is not None)),
            ("the scheme makes no keys of this size", self.scheme is not None and self.bits not in self.scheme.sizes),
            ("a go-* scheme needs insecure_rsa_scheme, and no other may have it", legacy != self.insecure_rsa_scheme),
            ("insecure_shared_key is for rsa only", self.insecure_shared_key and not rsa),
        ]

    @property
    def insecure_terms(self) -> tuple[str, ...]:
        """The insecure ones among these terms."""
        flags = {"insecure_shared_key": self.insecure_shared_key, "insecure_rsa_scheme": self.insecure_rsa_scheme}
        return tuple(name for name, there in flags.items() if there)

    def to_json(self) -> JsonObject:
        """Return the manifest's form."""
        value: JsonObject = {"leaf": self.leaf.value}
        if self.scheme is not None and self.bits is not None:
            value |= {"scheme": self.scheme.value, "bits": self.bits}
        return value | dict.fromkeys(self.insecure_terms, True)

    @classmethod
    def from_json(cls, value: JsonValue, where: str) -> Self:
        """Read the manifest's form.

        Raises:
            MalformedError: Another shape.
            ManifestError: Terms that do not go together.
        """
        with Fields(value, where) as fields:
            return cls(
                leaf=fields.choice("leaf", LeafKind),
                scheme=fields.optional("scheme", lambda name: fields.choice(name, RsaScheme)),
                bits=fields.optional("bits", lambda name: fields.integer(name, minimum=1, maximum=_BITS_MAX)),
                insecure_shared_key=fields.flag("insecure_shared_key"),
                insecure_rsa_scheme=fields.flag("insecure_rsa_scheme"),
            )
