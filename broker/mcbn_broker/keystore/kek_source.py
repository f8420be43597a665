"""Where the key-encryption key comes from: a file outside of the data directory, or Cloud KMS."""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from mcbn_broker.errors import UsageError
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.kek import KeyEncryptionKey, create_kek, load_kek

KMS_ENDPOINT: Final = "https://cloudkms.googleapis.com"
KMS_SECONDS: Final = 20.0


class KekSource(Protocol):
    """One place of the key-encryption key of the broker in `root`."""

    def load(self, root: Path, identity: Identity) -> KeyEncryptionKey:
        """Return the key. Raises KeystoreError or NotReadyError."""

    def create(self, root: Path, identity: Identity, random: Callable[[int], bytes]) -> KeyEncryptionKey:
        """Make the key. Raises KeystoreError, also where there is one."""

    def advice(self, root: Path) -> str:
        """Return what the participant should know about backups."""


@dataclass(frozen=True)
class KekFile:
    """32 raw bytes in a private file."""

    path: Path

    def load(self, root: Path, identity: Identity) -> KeyEncryptionKey:  # noqa: ARG002  # a file names nobody
        """Read the file."""
        return load_kek(self.path, root)

    def create(self, root: Path, identity: Identity, random: Callable[[int], bytes]) -> KeyEncryptionKey:  # noqa: ARG002
        """Make the file."""
        if self.path.exists():
            raise UsageError(
                f"{self.path} exists: leave out --create-kek to use it, or name a new file with --kek-file"
            )
        return create_kek(self.path, root, random)

    def advice(self, root: Path) -> str:
        """The key has to be kept, and kept apart."""
        return f"Keep {self.path} apart from backups of {root}: together they are the broker's secrets."


@dataclass(frozen=True)
class KekInCloudKms:
    """Wrapped by a key of Cloud KMS. Nothing of Google's libraries is loaded before it is used."""

    uri: str
    endpoint: str

    def load(self, root: Path, identity: Identity) -> KeyEncryptionKey:
        """Unwrap it: one call."""
        from mcbn_broker.keystore.cloud_kms.key import CloudKmsKey, KeyName  # noqa: PLC0415  # slow to import
        from mcbn_broker.keystore.cloud_kms.wrapped import load_wrapped  # noqa: PLC0415

        return load_wrapped(CloudKmsKey(KeyName.parse(self.uri), self.endpoint, KMS_SECONDS), root, identity)

    def create(self, root: Path, identity: Identity, random: Callable[[int], bytes]) -> KeyEncryptionKey:
        """Make it and wrap it."""
        from mcbn_broker.keystore.cloud_kms.key import CloudKmsKey, KeyName  # noqa: PLC0415  # slow to import
        from mcbn_broker.keystore.cloud_kms.wrapped import create_wrapped  # noqa: PLC0415

        return create_wrapped(CloudKmsKey(KeyName.parse(self.uri), self.endpoint, KMS_SECONDS), root, identity, random)

    def advice(self, root: Path) -> str:
        """The key's versions have to live."""
        return f"Without {self.uri} nothing in {root} opens, nor does a backup of it: never destroy its key versions."


def choose_kek(kek: str | None, kek_file: Path | None, kms_endpoint: str | None) -> KekSource:
    """Return the place that was named.

    Raises:
        UsageError: None or both were named, or the endpoint is not one to be trusted with a key.
    """
    if kek is None:
        if kms_endpoint is not None:
            raise UsageError("--kms-endpoint is for a key in Cloud KMS: name that key with --kek")
        if kek_file is None:
            raise UsageError("no key-encryption key was named: give --kek-file or --kek")
        return KekFile(kek_file)
    if kek_file is not None:
        raise UsageError("--kek and --kek-file (MCBN_KEK, MCBN_KEK_FILE) name two key-encryption keys: leave one out")
    return KekInCloudKms(kek, check_endpoint(kms_endpoint or KMS_ENDPOINT))


def check_endpoint(url: str) -> str:
    """Return a service's scheme and host. Plain HTTP is for a loopback address alone: the answer holds the key.

    Raises:
        UsageError: Another form.
    """
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    bare = f"{parts.scheme}://{parts.netloc}" == url and "@" not in parts.netloc and host.isascii()
    if not (bare and host and (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host)))):
        raise UsageError("--kms-endpoint is https://HOST, such as https://cloudkms.europe-west3.rep.googleapis.com")
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
