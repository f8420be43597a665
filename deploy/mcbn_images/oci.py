"""Writes and reads images: OCI image layouts, and archives of them that `docker load` takes too."""

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcbn_images.errors import UsageError
from mcbn_images.tree import MTIME, Entry, Kind, parents_of, read_archive

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True)
class Image:
    """An image for linux/amd64: one manifest, one configuration, uncompressed layers.

    Attributes:
        config: The `config` member of the image's configuration: entry point, environment, labels and so on.
        layers: Tar archives, the lowest first.
        foreign: The manifest as another program wrote it, if that is not what is written here; else None.
    """

    config: Mapping[str, Any]
    layers: tuple[bytes, ...]
    foreign: bytes | None = None

    @property
    def configuration(self) -> bytes:
        """The configuration blob. It has no time of creation and no history."""
        diff_ids = [digest_of(layer) for layer in self.layers]
        rootfs = {"type": "layers", "diff_ids": diff_ids}
        return to_json({"architecture": "amd64", "os": "linux", "config": self.config, "rootfs": rootfs})

    @property
    def manifest(self) -> bytes:
        """The manifest blob, whose digest is the image's."""
        if self.foreign is not None:
            return self.foreign
        layers = [_descriptor(LAYER, layer) for layer in self.layers]
        return to_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": _descriptor(CONFIG, self.configuration),
                "layers": layers,
            }
        )

    @property
    def digest(self) -> str:
        """The image's digest, `sha256:` and 64 hex digits."""
        return digest_of(self.manifest)

    def is_in_our_form(self) -> bool:
        """Whether every byte of it is as this program writes it, so that nobody reads another image out of it."""
        return self.foreign is None and all(read_archive(layer).archive() == layer for layer in self.layers)

    def files(self, reference: str) -> Iterator[tuple[str, bytes]]:
        """Give the files of the layout, sorted by path, with what `docker load` reads beside it.

        Args:
            reference: The name that an engine gives the image when it loads it.
        """
        blobs = {digest_of(blob): blob for blob in (self.configuration, self.manifest, *self.layers)}
        descriptor = _descriptor(MANIFEST, self.manifest) | {
            "annotations": {"org.opencontainers.image.ref.name": reference.rpartition(":")[2]}
        }
        for digest, blob in sorted(blobs.items()):
            yield _blob_path(digest), blob
        yield "index.json", to_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]})
        layers = [_blob_path(digest_of(layer)) for layer in self.layers]
        docker = {"Config": _blob_path(digest_of(self.configuration)), "RepoTags": [reference], "Layers": layers}
        yield "manifest.json", to_json([docker])
        yield "oci-layout", to_json({"imageLayoutVersion": "1.0.0"})


def write_layout(image: Image, folder: Path, reference: str) -> None:
    """Write an image layout into a folder that is empty or not there."""
    (folder / "blobs" / "sha256").mkdir(parents=True)
    for name, data in image.files(reference):
        if name != "manifest.json":
            (folder / name).write_bytes(data)


def write_archive(image: Image, path: Path, reference: str) -> None:
    """Write an image as one tar archive, which is a layout and can be loaded by an engine."""
    with path.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in image.files(reference):
            header = tarfile.TarInfo(name)
            header.size, header.mode, header.mtime = len(data), 0o644, MTIME
            tar.addfile(header, io.BytesIO(data))


def read_image(path: Path) -> Image:
    """Read an image from a layout's folder or an archive of one. Every blob is checked against its digest.

    Raises:
        UsageError: It is neither, is damaged, has several images in it, or layers compressed by anything but gzip.
    """
    try:
        return _read_image(_reader(path), path)
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is damaged: a member is missing or of another type ({error})") from error


def _read_image(read: Any, path: Path) -> Image:
    manifests = _json(read("index.json"), path)["manifests"]
    if len(manifests) != 1:
        raise UsageError(f"{path} has {len(manifests)} manifests: only a layout of one image can be read")
    manifest = _blob(read, manifests[0], path)
    members = _json(manifest, path)
    layers = tuple(_uncompressed(_blob(read, layer, path), path) for layer in members["layers"])
    configuration = _json(_blob(read, members["config"], path), path)
    image = Image(dict(configuration.get("config", {})), layers)
    return image if image.manifest == manifest else Image(image.config, layers, foreign=manifest)


def root_of(image: Image) -> dict[str, Entry]:
    """Lay an image's layers over each other. Whiteouts are left as the files that they are: none is ever made here."""
    merged: dict[str, Entry] = {}
    for layer in image.layers:
        entries = read_archive(layer).entries
        hiding = {path for path, entry in entries.items() if entry.kind is not Kind.DIRECTORY}
        merged = {path: entry for path, entry in merged.items() if hiding.isdisjoint(parents_of(path))} | entries
    return merged


def digest_of(data: bytes) -> str:
    """Return the digest of a blob."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def to_json(value: object) -> bytes:
    """Return JSON in one form: sorted, without blanks, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(blob), "size": len(blob)}


def _blob_path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _reader(path: Path) -> Any:
    if path.is_dir():
        return lambda name: _read_file(path / name)
    try:
        with tarfile.open(path, "r:") as tar:
            files = {member.name.removeprefix("./"): tar.extractfile(member) for member in tar if member.isfile()}
            held = {name: file.read() for name, file in files.items() if file is not None}
    except (OSError, tarfile.TarError) as error:
        raise UsageError(f"{path} is neither a layout nor an archive of one: {error}") from error

    def read(name: str) -> bytes:
        if name not in held:
            raise UsageError(f"{path} has no {name}")
        return held[name]

    return read


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _blob(read: Any, descriptor: Mapping[str, Any], path: Path) -> bytes:
    data: bytes = read(_blob_path(descriptor["digest"]))
    if digest_of(data) != descriptor["digest"]:
        raise UsageError(f"{path}: the blob {descriptor['digest']} is damaged")
    return data


def _uncompressed(layer: bytes, path: Path) -> bytes:
    if not layer.startswith(_GZIP):
        return layer
    try:
        return gzip.decompress(layer)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: a layer is damaged: {error}") from error


def _json(data: bytes, path: Path) -> dict[str, Any]:
    try:
        members = json.loads(data)
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}") from error
    if not isinstance(members, dict):
        raise UsageError(f"{path} is damaged: an object was expected")
    return members
