"""A draft: a manifest that nobody has signed yet, as the exact bytes that everybody will sign."""

from dataclasses import dataclass
from typing import Self

from mcbn_protocol import limits
from mcbn_protocol.encoding import JsonObject, canonical, parse_canonical
from mcbn_protocol.errors import MalformedError
from mcbn_protocol.identifiers import ManifestHash
from mcbn_protocol.manifest import Manifest, manifest_hash


@dataclass(frozen=True)
class Draft:
    """A manifest together with its payload's canonical bytes. Its file is these bytes, and nothing around them."""

    manifest: Manifest
    payload: JsonObject
    payload_bytes: bytes

    @property
    def hash(self) -> ManifestHash:
        """The manifest hash: what participants read to each other before they sign."""
        return manifest_hash(self.payload_bytes)

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Return the draft of a manifest."""
        payload = manifest.to_payload()
        return cls(manifest, payload, canonical(payload))

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a draft's file.

        Raises:
            MalformedError: Not canonical JSON of a manifest; a bundle or an editor's white space, for example.
            ManifestError: A rule of the agreement is broken.
        """
        payload = parse_canonical(data, limit=limits.MANIFEST_BYTES)
        if not isinstance(payload, dict):
            raise MalformedError("manifest: a JSON object is expected")
        if "signatures" in payload:
            raise MalformedError("this is a bundle, already signed; a draft is expected: the file of `manifest draft`")
        return cls(Manifest.from_payload(payload), payload, data)
