"""One participant's signature of a manifest, as a small file beside the draft."""

from dataclasses import dataclass
from typing import Final, Self

from mcbn_protocol import limits
from mcbn_protocol.encoding import b64u_encode, canonical, parse_canonical
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import ManifestHash, check_name
from mcbn_protocol.signatures import SIGNATURE_BYTES

FORMAT: Final = "mcbn-manifest-signature-v1"


@dataclass(frozen=True)
class ManifestSignature:
    """Who signed which manifest. The hash only helps to find the draft; the signature decides.

    Attributes:
        participant: The signer.
        manifest_hash: 32 bytes.
        signature: Ed25519, 64 bytes, under the label `mcbn/manifest/v1`.
    """

    participant: str
    manifest_hash: ManifestHash
    signature: bytes

    def to_bytes(self) -> bytes:
        """Return the file: canonical JSON."""
        return canonical(
            {
                "format": FORMAT,
                "participant": self.participant,
                "manifest_hash": self.manifest_hash.hex(),
                "signature": b64u_encode(self.signature),
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the file; nothing is verified yet.

        Raises:
            MalformedError: Not a signature's file.
        """
        with Fields(parse_canonical(data, limit=limits.CARD_BYTES), "signature") as fields:
            fields.exactly("format", FORMAT)
            return cls(
                participant=fields.decoded("participant", check_name),
                manifest_hash=ManifestHash(fields.hash("manifest_hash")),
                signature=fields.base64url("signature", length=SIGNATURE_BYTES),
            )
