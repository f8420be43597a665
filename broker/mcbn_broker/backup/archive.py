"""Puts a folder's files into a stream (tar, POSIX.1-2001), and takes out only files that a backup has."""

import os
import re
import shutil
import tarfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, cast

from mcbn_broker.backup.envelope import OpeningStream, SealingStream
from mcbn_broker.backup.errors import BackupError
from mcbn_broker.keystore.files import PRIVATE_FILE, PRIVATE_FOLDER, sync_folder

NAMES: Final = re.compile(
    r"backup\.json|broker\.json|broker\.sqlite3|broker\.toml|consent-key\.public|kek\.wrapped|policy\.toml|release\.key"
    r"|roster\.json|epochs/[1-9][0-9]{0,18}\.key"
)
"""What a backup may hold: neither the key-encryption key itself nor the challenge key, whose place a new one takes."""

REQUIRED: Final = ("backup.json", "broker.json", "broker.sqlite3", "release.key")


def pack(folder: Path, out: SealingStream, keys: Iterable[Path]) -> None:
    """Write every file of a folder that a backup may hold, and epoch keys from where they are.

    Args:
        folder: The files.
        out: Where to.
        keys: `N.key`. No copy of them is made, so that destroying one destroys it; one that is gone is left out.
    """
    with tarfile.open(fileobj=cast("IO[bytes]", out), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and NAMES.fullmatch(name):
                archive.add(path, name, recursive=False, filter=_without_owner)
        for path in keys:
            with suppress(FileNotFoundError):
                archive.add(path, f"epochs/{path.name}", recursive=False, filter=_without_owner)
    out.finish()


def _without_owner(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = PRIVATE_FILE
    return info


def unpack(source: OpeningStream, folder: Path) -> None:
    """Write the files into a new, private folder; durable on return.

    Raises:
        BackupError: Something that no backup has, something twice, something missing; or changed or cut off.
        OSError: The file system refused.
    """
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", source), mode="r|") as archive:
            for member in archive:
                _extract(archive, member, folder)
    except tarfile.TarError as error:
        raise BackupError(f"the backup's content cannot be read: {error}") from error
    source.finish()
    missing = [name for name in REQUIRED if not (folder / name).is_file()]
    if missing:
        raise BackupError(f"the backup lacks {', '.join(missing)}")
    for one in (folder, *(path for path in folder.iterdir() if path.is_dir())):
        sync_folder(one)


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    content: Any = archive.extractfile(member) if member.isreg() and NAMES.fullmatch(member.name) else None
    if content is None:
        raise BackupError("the backup holds something that no backup has: it was not made by mcbn-broker backup")
    path = folder / member.name
    path.parent.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    except FileExistsError as error:
        raise BackupError("the backup holds a file twice: it was not made by mcbn-broker backup") from error
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())
