"""Searches bytes, folders, databases and running processes for secrets, in every form in which they might slip out."""

import base64
import contextlib
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

SQLITE_MAGIC = b"SQLite format 3\0"
SAMPLE_SECONDS = 0.1
# Header and the beginning of the claims: the rest may be cut off, or lie on another page of a database.
TOKEN = re.compile(rb"eyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{40,}")


@dataclass(frozen=True)
class Evidence:
    """Some bytes, and where they were found."""

    place: str
    data: bytes


@dataclass(frozen=True)
class Finding:
    """A secret where it was found, and the form that it had there."""

    secret: str
    form: str
    place: str


def forms_of(secret: bytes) -> dict[str, bytes]:
    """What to search for: raw, hex, and base64 of both alphabets at each of the three places in a longer text."""
    forms = {"raw": secret, "hex": secret.hex().encode(), "HEX": secret.hex().upper().encode()}
    for shift in range(3):
        standard = _base64_within(secret, shift)
        forms[f"base64+{shift}"] = standard
        forms[f"base64url+{shift}"] = standard.translate(bytes.maketrans(b"+/", b"-_"))
    return forms


def _base64_within(secret: bytes, shift: int) -> bytes:
    """The characters of base64 that a secret alone decides, when `shift` other bytes (modulo 3) come before it."""
    first, end = -(-8 * shift // 6), 8 * (shift + len(secret)) // 6
    return base64.b64encode(bytes(shift) + secret)[first:end]


class Scanner:
    """Finds these secrets, by name, and any attestation token."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._needles = {name: forms_of(secret) for name, secret in secrets.items()}

    def search(self, evidence: Iterable[Evidence]) -> set[Finding]:
        return {finding for one in evidence for finding in self._search(one)}

    def _search(self, one: Evidence) -> Iterator[Finding]:
        if TOKEN.search(one.data):
            yield Finding("a token", "JWS", one.place)
        for name, forms in self._needles.items():
            for form, needle in forms.items():
                if needle in one.data:
                    yield Finding(name, form, one.place)


def folder_evidence(root: Path) -> Iterator[Evidence]:
    """Every file below a folder, and every value in the databases among them: a value may be split over pages."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            with contextlib.suppress(FileNotFoundError):  # the programs go on while somebody looks
                place = str(path.relative_to(root))
                data = path.read_bytes()
                yield Evidence(place, data)
                if data.startswith(SQLITE_MAGIC):
                    yield from _database_evidence(path, place)


def _database_evidence(path: Path, place: str) -> Iterator[Evidence]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):  # noqa: S608  # our own database
                for value in row:
                    yield Evidence(
                        f"{place}, table {table}", value if isinstance(value, bytes) else str(value).encode()
                    )


class ProcessWitness:
    """Looks, as long as the block runs, at the arguments and the environment of a process and all below it."""

    def __init__(self, pid: int) -> None:
        self.evidence: set[Evidence] = set()
        self._root = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.look()

    def look(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in (self._root, *self._root.children(recursive=True)):
                for part in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):  # it has ended since
                        data = Path(f"/proc/{process.pid}/{part}").read_bytes()
                        self.evidence.add(Evidence(f"{part} of a process", data))
