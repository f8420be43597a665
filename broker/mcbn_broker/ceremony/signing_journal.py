"""What a consent key has signed so far: never two manifests of one epoch, never a repeated commitment."""

from dataclasses import dataclass
from typing import Final, Self

from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.errors import CeremonyError
from mcbn_protocol import limits
from mcbn_protocol.encoding import JsonObject, JsonValue, b64u_encode, canonical, hex32_decode, parse_canonical
from mcbn_protocol.fields import Fields
from mcbn_protocol.identifiers import ManifestHash, RosterHash
from mcbn_protocol.signatures import KEY_BYTES

FORMAT: Final = "mcbn-signing-journal-v1"
JOURNAL_BYTES: Final = 64 * 1024 * 1024
_ENTRIES: Final = 100_000


@dataclass(frozen=True)
class JournalEntry:
    """One manifest that was signed, with the commitments of all participants in it."""

    roster_hash: RosterHash
    epoch: int
    manifest_hash: ManifestHash
    commitments: tuple[bytes, ...]

    @classmethod
    def of(cls, draft: Draft) -> Self:
        """Return the entry of a draft."""
        manifest = draft.manifest
        return cls(manifest.roster_hash, manifest.epoch, draft.hash, tuple(sorted(manifest.commitments.values())))

    def to_json(self) -> JsonObject:
        """Return the file's form."""
        return {
            "roster_hash": self.roster_hash.hex(),
            "epoch": self.epoch,
            "manifest_hash": self.manifest_hash.hex(),
            "commitments": [one.hex() for one in self.commitments],
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> Self:
        """Read the file's form.

        Raises:
            MalformedError: Another shape.
        """
        with Fields(value, "journal.manifests") as fields:
            return cls(
                roster_hash=RosterHash(fields.hash("roster_hash")),
                epoch=fields.integer("epoch", minimum=1, maximum=limits.EPOCH_MAX),
                manifest_hash=ManifestHash(fields.hash("manifest_hash")),
                commitments=tuple(hex32_decode(one) for one in fields.texts("commitments", minimum=1)),
            )


@dataclass(frozen=True)
class SigningJournal:
    """The journal of one consent key (its 32 public bytes), oldest entry first."""

    consent_key: bytes
    entries: tuple[JournalEntry, ...]

    def admit(self, draft: Draft) -> Self:
        """Return the journal with this draft in it; the same one if exactly this draft was signed before.

        Raises:
            CeremonyError: The draft must not be signed.
        """
        new = JournalEntry.of(draft)
        if new in self.entries:
            return self
        for old in self.entries:
            if old.roster_hash == new.roster_hash:
                _check_epochs(new, old, draft)
            _check_fresh(new, old)
        return type(self)(self.consent_key, (*self.entries, new))

    def to_bytes(self) -> bytes:
        """Return the file: canonical JSON."""
        return canonical(
            {
                "format": FORMAT,
                "consent_key": b64u_encode(self.consent_key),
                "manifests": [one.to_json() for one in self.entries],
            }
        )

    @classmethod
    def parse(cls, data: bytes, *, consent_key: bytes) -> Self:
        """Read the journal of a consent key.

        Raises:
            MalformedError: Not a journal.
            CeremonyError: The journal of another key.
        """
        with Fields(parse_canonical(data, limit=JOURNAL_BYTES), "journal") as fields:
            fields.exactly("format", FORMAT)
            owner = fields.base64url("consent_key", length=KEY_BYTES)
            entries = fields.array("manifests", minimum=0, maximum=_ENTRIES)
        if owner != consent_key:
            raise CeremonyError("the signing journal belongs to another consent key: put the right one beside the key")
        return cls(owner, tuple(JournalEntry.from_json(one) for one in entries))


def _check_fresh(new: JournalEntry, old: JournalEntry) -> None:
    repeated = set(new.commitments) & set(old.commitments)
    if repeated:
        raise CeremonyError(
            f"the commitment {min(repeated).hex()} was signed before, for epoch {old.epoch}: every epoch needs new "
            "shares; its participant runs `mcbn-broker share new` and sends the new card"
        )


def _check_epochs(new: JournalEntry, old: JournalEntry, draft: Draft) -> None:
    if new.epoch == old.epoch:
        raise CeremonyError(
            f"this key has signed another manifest of epoch {old.epoch}, {old.manifest_hash.hex()}: "
            "go on with that one, or give it up together and let every participant make a share for the next epoch"
        )
    if new.epoch < old.epoch:
        raise CeremonyError(f"this key has signed epoch {old.epoch} already; epoch {new.epoch} is older")
    if new.epoch == old.epoch + 1 and draft.manifest.previous != old.manifest_hash:
        raise CeremonyError(
            f"the draft follows {_hex(draft.manifest.previous)}, but epoch {old.epoch} as this key signed it is "
            f"{old.manifest_hash.hex()}: draft anew with --previous and that bundle"
        )


def _hex(value: bytes | None) -> str:
    return "nothing" if value is None else value.hex()


def empty_journal(consent_key: bytes) -> SigningJournal:
    """Return the journal of a key that has signed nothing."""
    return SigningJournal(consent_key, ())
