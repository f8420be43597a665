"""Combines shares from files with a legacy scheme, to compare with systems that still use its raw output as a key."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from mcbn_protocol.errors import KeyScheduleError
from mcbn_protocol.key_schedule import LEGACY_SCHEMES, CombinedKey, Scheme, legacy_combination
from mcbn_protocol.shares import Share
from mcbn_workload.errors import ConfigurationError

_HEX: Final = re.compile(rb"[0-9a-f]{64}\n?")
_FILE_BYTES: Final = 65


class ShareFileError(ConfigurationError):
    """A file that is not exactly one share, or shares that cannot be combined."""

    code: ClassVar[str] = "share_file_refused"


def combine_files(scheme: Scheme, files: Sequence[Path]) -> CombinedKey:
    """Return the raw combination (32 bytes) of the shares in these files; their order matters.

    Args:
        scheme: `sha256-concat` or `hmac-sha256-chain`.
        files: Each holds exactly 64 lower-case hex digits and at most one newline.

    Raises:
        ShareFileError: A file of another form, or equal or degenerate shares.
        ConfigurationError: A scheme whose key depends on more than the shares.
    """
    if scheme not in LEGACY_SCHEMES:
        raise ConfigurationError(
            f"the keys of {scheme} depend on the manifest too: `server`, `client` and `probe` derive them; "
            f"this command combines {', '.join(sorted(LEGACY_SCHEMES))}"
        )
    try:
        return legacy_combination(scheme, [_read_share(path) for path in files])
    except KeyScheduleError as error:
        raise ShareFileError(str(error)) from error


def _read_share(path: Path) -> Share:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise ShareFileError(f"cannot read {path}: {error.strerror}") from error
    if not _HEX.fullmatch(data):
        raise ShareFileError(f"{path} must hold exactly 64 lower-case hex digits and at most one newline")
    return Share(bytes.fromhex(data.decode("ascii")))
