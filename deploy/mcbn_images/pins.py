"""What the locks pin: one file with its hash for each wheel and each Debian package."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class WheelPin:
    """One wheel.

    Attributes:
        name: The distribution's name, normalised (PEP 503).
        version: Its version, as in the requirements lock.
        filename: The wheel's file name; it says for which Python and platform it was built.
        sha256: Of the file, 64 hex digits.
    """

    name: str
    version: str
    filename: str
    sha256: str


@dataclass(frozen=True, order=True)
class DebPin:
    """One Debian binary package.

    Attributes:
        name: The package's name.
        version: Its full version, with epoch and revision.
        architecture: `amd64` or `all`.
        filename: Its path in the archive, such as `pool/main/z/zlib/zlib1g_1.2.13.dfsg-1_amd64.deb`.
        sha256: Of the file, 64 hex digits.
        size: Of the file, in bytes.
    """

    name: str
    version: str
    architecture: str
    filename: str
    sha256: str
    size: int
