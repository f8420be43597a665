"""The manifest that a draft follows: the last one that all participants signed, or one that they gave up together."""

from dataclasses import dataclass
from typing import Self

from mcbn_broker.ceremony.drafts import Draft
from mcbn_protocol import limits
from mcbn_protocol.encoding import parse_canonical
from mcbn_protocol.identifiers import ManifestHash
from mcbn_protocol.manifest import AgreedManifest
from mcbn_protocol.roster import Roster


@dataclass(frozen=True)
class Predecessor:
    """Epoch and hash of the manifest before.

    Attributes:
        epoch: The draft opens the one after it.
        hash: 32 bytes; what the draft names as `previous`.
        agreed: Whether all participants signed it. Otherwise it is a draft which some of them signed and all gave up:
            none of them signs a second manifest of that epoch, so the next epoch takes its place.
    """

    epoch: int
    hash: ManifestHash
    agreed: bool

    @classmethod
    def parse(cls, data: bytes, roster: Roster) -> Self:
        """Read a bundle and verify it, or read a draft that was given up.

        Raises:
            MalformedError: Neither.
            ManifestError: It belongs to another roster, or a signature is missing.
            SignatureInvalidError: A signature of the bundle does not verify.
        """
        value = parse_canonical(data, limit=limits.MANIFEST_BYTES)
        if isinstance(value, dict) and "signatures" in value:
            agreed = AgreedManifest.parse(data, roster)
            return cls(agreed.manifest.epoch, agreed.hash, agreed=True)
        draft = Draft.parse(data)
        draft.manifest.check_roster(roster)
        return cls(draft.manifest.epoch, draft.hash, agreed=False)
