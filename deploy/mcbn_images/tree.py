"""A layer's files in memory, and the one way to write them as a tar archive."""

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Self

from mcbn_images.errors import InputError

MTIME: Final = 315532800
"""1980-01-01T00:00:00Z, the time of every file: the earliest that a zip archive can express."""

DIRECTORY_MODE: Final = 0o755
_WHITEOUT: Final = ".wh."  # OCI Image Format Specification 1.1, layer.md, "Whiteouts"
FILE_MODES: Final = {False: 0o644, True: 0o755}


class Kind(StrEnum):
    """What an entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"


@dataclass(frozen=True)
class Entry:
    """One file, directory or symbolic link.

    Attributes:
        kind: What it is.
        mode: Permission bits.
        data: A file's bytes.
        target: Where a link leads.
        owner: User and group id.
    """

    kind: Kind
    mode: int
    data: bytes = field(default=b"", repr=False)
    target: str = ""
    owner: int = 0


@dataclass
class Tree:
    """Entries by path, relative to the root and without a slash at either end. Parents come by themselves."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def add_file(self, path: str, data: bytes, *, executable: bool = False) -> None:
        """Add a regular file with mode 0644 or 0755.

        Raises:
            InputError: Something else is at this path.
        """
        self._add(path, Entry(Kind.FILE, FILE_MODES[executable], data=data))

    def add_link(self, path: str, target: str) -> None:
        """Add a symbolic link.

        Raises:
            InputError: Something else is at this path.
        """
        self._add(path, Entry(Kind.LINK, 0o777, target=target))

    def add_directory(self, path: str, mode: int = DIRECTORY_MODE, owner: int = 0) -> None:
        """Add a directory.

        Raises:
            InputError: Something else is at this path.
        """
        self._add(path, Entry(Kind.DIRECTORY, mode, owner=owner))

    def merge(self, other: Self) -> None:
        """Add all entries of another tree.

        Raises:
            InputError: Both have different things at one path.
        """
        for path, entry in other.entries.items():
            self._add(path, entry)

    def under(self, prefix: str) -> Iterator[tuple[str, Entry]]:
        """Give what is below a directory, sorted by path."""
        return ((path, entry) for path, entry in sorted(self.entries.items()) if path.startswith(prefix + "/"))

    def size(self) -> int:
        """Return the sum of the files' bytes."""
        return sum(len(entry.data) for entry in self.entries.values())

    def archive(self) -> bytes:
        """Return the tree as a tar archive: sorted by path, with nothing in it of who wrote it, where or when."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
            for path, entry in sorted(self.entries.items(), key=lambda item: item[0].split("/")):
                tar.addfile(_header(path, entry), io.BytesIO(entry.data))
        return buffer.getvalue()

    def _add(self, path: str, entry: Entry) -> None:
        check_path(path)
        self._add_parents(path)
        existing = self.entries.setdefault(path, entry)
        if existing != entry:
            raise InputError(f"/{path} comes twice, with different content, mode or owner: leave one of them out")

    def _add_parents(self, path: str) -> None:
        for parent in parents_of(path):
            existing = self.entries.setdefault(parent, Entry(Kind.DIRECTORY, DIRECTORY_MODE))
            if existing.kind is not Kind.DIRECTORY:
                raise InputError(f"/{path} lies below /{parent}, which is a {existing.kind}")


def parents_of(path: str) -> Iterator[str]:
    """Give the directories that a path lies in, the nearest first; the root is none of them."""
    while path := path.rpartition("/")[0]:
        yield path


def check_path(path: str) -> None:
    """Check that a path stays inside the tree, has one spelling, and can be shown as it is.

    Raises:
        InputError: It is absolute, empty, or has an empty, `.` or `..` part; it has a character that cannot be printed,
            such as a line's end; or it is a whiteout.
    """
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts) or not path.isprintable():
        raise InputError(f"{path!r} is no path inside an image")
    if any(part.startswith(_WHITEOUT) for part in parts):
        raise InputError(f"{path!r} would delete a file of the layers below (a whiteout)")


def read_archive(data: bytes) -> Tree:
    """Read a tar archive as a tree; owners are kept, times are not.

    Raises:
        InputError: It is no tar archive, or has a device or a link to nowhere in it.
    """
    tree = Tree()
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:", encoding="utf-8") as tar:
            for member in tar:
                path = member.name.removeprefix("./").rstrip("/")
                if path not in {"", "."}:
                    tree.entries[path] = _entry(tar, member)
    except (tarfile.TarError, KeyError) as error:
        raise InputError(f"not a tar archive that can be read: {error}") from error
    return tree


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    if member.isdir():
        return Entry(Kind.DIRECTORY, member.mode, owner=member.uid)
    if member.issym():
        return Entry(Kind.LINK, 0o777, target=member.linkname, owner=member.uid)
    if member.isreg() or member.islnk():  # a hard link gives the bytes of the file it names
        file = tar.extractfile(member)
        if file is not None:
            return Entry(Kind.FILE, member.mode, data=file.read(), owner=member.uid)
    raise InputError(f"{member.name!r}: neither a file, a directory nor a link")


def _header(path: str, entry: Entry) -> tarfile.TarInfo:
    header = tarfile.TarInfo(path)
    header.type = {Kind.FILE: tarfile.REGTYPE, Kind.DIRECTORY: tarfile.DIRTYPE, Kind.LINK: tarfile.SYMTYPE}[entry.kind]
    header.mode, header.mtime, header.uid, header.gid = entry.mode, MTIME, entry.owner, entry.owner
    header.size, header.linkname = len(entry.data), entry.target
    return header
