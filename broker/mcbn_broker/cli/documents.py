"""Reads the documents of the set-up from the files that a command was given."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.ceremony.files import read_beside, read_file
from mcbn_broker.ceremony.predecessor import Predecessor
from mcbn_broker.ceremony.signature_files import ManifestSignature
from mcbn_broker.ceremony.terms import TERMS_BYTES, Terms
from mcbn_broker.errors import CeremonyError, UsageError
from mcbn_protocol import limits
from mcbn_protocol.encoding import JsonValue, parse_canonical
from mcbn_protocol.errors import ProtocolError, SignatureInvalidError
from mcbn_protocol.manifest import FORMAT as MANIFEST_FORMAT
from mcbn_protocol.participants import ParticipantCard, parse_card
from mcbn_protocol.roster import Roster
from mcbn_protocol.shares import CARD_FORMAT, CommitmentCard
from mcbn_protocol.signatures import Envelope

_PEM_BYTES: Final = limits.PEM_CHARS
T = TypeVar("T")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say the name of a document's file together with what is wrong in it.

    Raises:
        CeremonyError: What the block raised as a ProtocolError or CeremonyError.
    """
    try:
        yield
    except (ProtocolError, CeremonyError) as error:
        raise CeremonyError(f"{path}: {error}") from error


def _read(path: Path, parse: Callable[[bytes], T], *, limit: int) -> T:
    data = read_file(path, limit=limit)
    with naming(path):
        return parse(data)


def read_roster(path: Path) -> Roster:
    """Read a roster."""
    return _read(path, Roster.parse, limit=limits.ROSTER_BYTES)


def read_card(path: Path) -> ParticipantCard:
    """Read a participant card and verify both of its signatures."""
    return _read(path, parse_card, limit=limits.CARD_BYTES)


def read_commitment(path: Path, roster: Roster) -> CommitmentCard:
    """Read a commitment card and verify it under the roster."""

    def parse(data: bytes) -> CommitmentCard:
        try:
            return CommitmentCard.parse(data, roster)
        except SignatureInvalidError as error:
            raise CeremonyError(f"{error}; or it was made for another roster: compare the roster hashes") from error

    return _read(path, parse, limit=limits.CARD_BYTES)


def read_participants(paths: Sequence[Path], roster: Roster) -> tuple[list[ParticipantCard], list[CommitmentCard]]:
    """Read cards of both kinds, in any order, and verify all of them."""
    cards, commitments = [], []
    for path in paths:
        if _read(path, _payload_format, limit=limits.CARD_BYTES) == CARD_FORMAT:
            commitments.append(read_commitment(path, roster))
        else:
            cards.append(read_card(path))
    return cards, commitments


def _payload_format(data: bytes) -> JsonValue:
    return Envelope.parse(data, limit=limits.CARD_BYTES).payload.get("format")


def read_draft(path: Path) -> Draft:
    """Read a manifest that is not signed yet."""
    return _read(path, Draft.parse, limit=limits.MANIFEST_BYTES)


def read_bundle(path: Path) -> bytes:
    """Read a bundle's bytes; whoever accepts them verifies the signatures.

    Raises:
        CeremonyError: It is a draft.
    """
    data = read_file(path, limit=limits.MANIFEST_BYTES)
    with naming(path):
        value = parse_canonical(data, limit=limits.MANIFEST_BYTES)
    if isinstance(value, dict) and value.get("format") == MANIFEST_FORMAT:
        raise CeremonyError(f"{path} is a draft, not a bundle: run `mcbn-broker manifest bundle` first")
    return data


def read_signature(path: Path) -> ManifestSignature:
    """Read one participant's signature; the bundle verifies it."""
    return _read(path, ManifestSignature.parse, limit=limits.CARD_BYTES)


def read_predecessor(path: Path, roster: Roster) -> Predecessor:
    """Read the bundle, or the draft that was given up, of the epoch before."""
    return _read(path, lambda data: Predecessor.parse(data, roster), limit=limits.MANIFEST_BYTES)


def read_terms(path: Path) -> Terms:
    """Read a terms file; the files that it names are beside it."""

    def read_text(name: str) -> str:
        try:
            return read_beside(path, name, limit=_PEM_BYTES).decode("ascii")
        except UnicodeDecodeError as error:
            raise UsageError(f"{path.parent / name} is not a PEM file") from error

    return _read(path, lambda data: Terms.parse(data, read_text=read_text), limit=TERMS_BYTES)
