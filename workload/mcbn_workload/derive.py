"""Combines shares from files with a legacy scheme, to compare with systems that use its output as a key or RSA seed."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mcbn_protocol.encoding import b64u_encode
from mcbn_protocol.errors import KeyScheduleError
from mcbn_protocol.key_schedule import LEGACY_SCHEMES, CombinedKey, Scheme, legacy_combination
from mcbn_protocol.rsa_schemes import RsaScheme
from mcbn_protocol.shares import Share
from mcbn_workload.errors import ConfigurationError
from mcbn_workload.rsa_keys import derive_rsa_key, spki_sha256

RSA_COMBINATION: Final = Scheme.SHA256_CONCAT
"""The combination whose output was the RSA seed of the systems that this one grew from."""

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


class KeyFileError(ConfigurationError):
    """The file for a private key is there already, or cannot be written."""

    code: ClassVar[str] = "key_file_refused"


def rsa_key_of(combined: CombinedKey, scheme: RsaScheme, bits: int | None) -> RSAPrivateKey:
    """Return the RSA key that a scheme makes of a combined key.

    Raises:
        ConfigurationError: A size that the scheme has no keys of.
        RsaKeyError: No key follows from this one.
    """
    return derive_rsa_key(scheme, combined, scheme.sizes[0] if bits is None else bits)


def describe_rsa_key(combined: CombinedKey, key: RSAPrivateKey) -> str:
    """Return the combined key, the public key (PKCS #1, RFC 8017 A.1.1) and its name, as lines to compare."""
    public = key.public_key()
    lines = [
        f"combined key (base64url): {b64u_encode(combined.reveal())}",
        f"SPKI SHA-256 (base64url): {b64u_encode(spki_sha256(public))}",
        public.public_bytes(Encoding.PEM, PublicFormat.PKCS1).decode("ascii"),
    ]
    return "\n".join(lines)


def write_private_key(key: RSAPrivateKey, path: Path) -> None:
    """Write a private key, unencrypted, to a new file that only its owner can read.

    Raises:
        KeyFileError: The file exists already or cannot be written.
    """
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        raise KeyFileError(f"cannot write the private key to {path}: {error.strerror}; name a new file") from error


def _read_share(path: Path) -> Share:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise ShareFileError(f"cannot read {path}: {error.strerror}") from error
    if not _HEX.fullmatch(data):
        raise ShareFileError(f"{path} must hold exactly 64 lower-case hex digits and at most one newline")
    return Share(bytes.fromhex(data.decode("ascii")))
