"""systemd's credentials (systemd.exec(5)): files that it hands to one service in a folder of their own."""

import os
import stat
from pathlib import Path
from typing import Final

from mcbn_broker.errors import KeystoreError
from mcbn_broker.keystore.files import read_checked, read_private

_ROOT: Final = 0
_OPEN: Final = 0o027  # what neither group nor others may have; a group's reading is looked at apart


def credentials_directory() -> Path | None:
    """Return `$CREDENTIALS_DIRECTORY`, or None without one."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(directory) if directory else None


def read_secret(path: Path) -> bytes:
    """Return the content of a private file, or of one of systemd's credentials.

    Since version 254, systemd lets root own credentials, and the service read them by an access control list. `stat`
    shows this list's mask as permissions of the group (acl(5)): 0440 is no sign of an open file there.

    Raises:
        KeystoreError: Missing, unreadable, too large, or open to others.
    """
    folder = credentials_directory()
    if folder is None or path.parent != folder or not _roots_for_us(path):
        return read_private(path)
    _check_handed_over(folder)
    _check_handed_over(path)
    return read_checked(path)


def _roots_for_us(path: Path) -> bool:
    return os.geteuid() != _ROOT and not path.is_symlink() and path.stat().st_uid == _ROOT


def _check_handed_over(path: Path) -> None:
    """Check that only root can have put this here, and that nobody can write it nor others read it."""
    found = path.stat()
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid != _ROOT or found.st_gid != _ROOT or mode & _OPEN:
        raise KeystoreError(
            f"{path} has mode {mode:04o}, user {found.st_uid} and group {found.st_gid}: not as systemd "
            "hands a credential over; let the unit say LoadCredential= or LoadCredentialEncrypted="
        )
    if not os.statvfs(path).f_flag & os.ST_RDONLY:
        raise KeystoreError(
            f"{path} can be written, which systemd's credentials cannot: let the unit say "
            "LoadCredential= or LoadCredentialEncrypted=, and set no CREDENTIALS_DIRECTORY yourself"
        )
