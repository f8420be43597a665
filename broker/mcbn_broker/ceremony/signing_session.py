"""A consent key at work: its file and its journal, held by one process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mcbn_broker.ceremony.consent_keys import ConsentKeyFile
from mcbn_broker.ceremony.drafts import Draft
from mcbn_broker.ceremony.files import PRIVATE, read_file, write_new
from mcbn_broker.ceremony.signing_journal import JOURNAL_BYTES, SigningJournal, empty_journal
from mcbn_broker.errors import CeremonyError, UsageError
from mcbn_protocol import limits
from mcbn_protocol.errors import ProtocolError


def journal_path(key_path: Path) -> Path:
    """Return where the journal of a consent key is: `alice.consent-key.signed.json` beside `alice.consent-key.json`."""
    return key_path.with_name(f"{key_path.stem}.signed.json")


def create_key_files(key_path: Path, key: ConsentKeyFile) -> None:
    """Write a new consent key and its empty journal, mode 0600. Neither ever replaces a file.

    Raises:
        UsageError: One of them exists, or cannot be written.
    """
    for path in (key_path, journal_path(key_path)):
        if path.exists():
            raise UsageError(f"{path} exists: a consent key is never replaced; choose another name")
    write_new(journal_path(key_path), empty_journal(key.public_key).to_bytes(), mode=PRIVATE, force=False)
    write_new(key_path, key.to_bytes(), mode=PRIVATE, force=False)


def read_consent_key(key_path: Path) -> ConsentKeyFile:
    """Read a consent key's file.

    Raises:
        UsageError: It cannot be read.
        CeremonyError: It is not a consent key's file.
    """
    with _naming(key_path):
        return ConsentKeyFile.parse(read_file(key_path, limit=limits.CARD_BYTES))


@dataclass(frozen=True)
class SigningSession:
    """The key, what it has signed, and the right to add to it."""

    key: ConsentKeyFile
    journal: SigningJournal
    path: Path

    def record(self, draft: Draft) -> None:
        """Make the journal durable with this draft in it. Only then may the signature be made.

        Raises:
            CeremonyError: The journal does not admit the draft.
            UsageError: The journal cannot be written.
        """
        write_new(self.path, self.journal.admit(draft).to_bytes(), mode=PRIVATE, force=True)


@contextmanager
def signing_session(key_path: Path) -> Iterator[SigningSession]:
    """Hold a consent key's files for one signature.

    Raises:
        UsageError: The key cannot be read, or another process is signing with it.
        CeremonyError: The journal is missing, or belongs to another key; or a file is not what it should be.
    """
    key = read_consent_key(key_path)
    path = journal_path(key_path)
    if not path.exists():
        raise CeremonyError(
            f"the signing journal {path} is missing: without it, this key could sign two manifests of one epoch. "
            "Put it back from where the key came from, or from its backup"
        )
    with _locked(key_path):
        data = read_file(path, limit=JOURNAL_BYTES)
        with _naming(path):
            journal = SigningJournal.parse(data, consent_key=key.public_key)
        yield SigningSession(key, journal, path)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (ProtocolError, CeremonyError) as error:
        raise CeremonyError(f"{path}: {error}") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UsageError(f"another process is signing with {path}: wait for it to end") from error
    finally:
        os.close(descriptor)
