"""Reads an OCI image layout blob by blob, so that an image never has to be in memory."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcbn_images.errors import UsageError

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
CHUNK: Final = 1 << 20
"""Bytes read at once."""


@dataclass(frozen=True)
class Blob:
    """A file of a layout. Iterating reads it, each time anew, so that a request with it can be made twice.

    Attributes:
        digest: As the image manifest says.
        size: In bytes.
        path: Where it is.
    """

    digest: str
    size: int
    path: Path

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def check(self) -> None:
        """Compare the file with its digest.

        Raises:
            UsageError: It is another one, or cannot be read.
        """
        hashed = hashlib.sha256()
        try:
            for chunk in self:
                hashed.update(chunk)
        except OSError as error:
            raise UsageError(f"cannot read {self.path}: {error.strerror}") from error
        if f"sha256:{hashed.hexdigest()}" != self.digest or self.path.stat().st_size != self.size:
            raise UsageError(f"{self.path} is damaged: build the image anew")


@dataclass(frozen=True)
class Layout:
    """A layout of one image.

    Attributes:
        digest: The image's.
        media_type: Of its manifest.
        manifest: Its bytes.
        blobs: Configuration and layers, each once.
    """

    digest: str
    media_type: str
    manifest: bytes
    blobs: tuple[Blob, ...]


def read_layout(folder: Path) -> Layout:
    """Read a layout, and check every file against its digest.

    Raises:
        UsageError: It is not a layout of one image, or it is damaged.
    """
    try:
        (descriptor,) = json.loads((folder / "index.json").read_bytes())["manifests"]
        blob = _blob(folder, descriptor)
        blob.check()
        manifest = blob.path.read_bytes()
        members = json.loads(manifest)
        media_type = str(members["mediaType"])
        blobs = {one.digest: one for one in (_blob(folder, part) for part in [members["config"], *members["layers"]])}
    except OSError as error:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}. LAYOUT is build/images/NAME") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder} is not an OCI layout of one image ({error!r})") from error
    for one in blobs.values():
        one.check()
    return Layout(blob.digest, media_type, manifest, tuple(blobs.values()))


def _blob(folder: Path, descriptor: Mapping[str, Any]) -> Blob:
    digest, size = descriptor["digest"], descriptor["size"]
    if not (isinstance(digest, str) and _DIGEST.fullmatch(digest) and isinstance(size, int)):
        raise UsageError(f"{folder}: a descriptor's digest is not sha256: and 64 hex digits")
    return Blob(digest, size, folder / "blobs" / digest.replace(":", "/"))
