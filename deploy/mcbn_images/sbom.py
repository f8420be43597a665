"""Writes an image's bill of materials: CycloneDX 1.6, the same bytes for the same contents."""

import hashlib
import json
import urllib.parse
import uuid
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mcbn_images.errors import InputError
from mcbn_images.pins import DebPin, WheelPin

_DISTRIBUTION: Final = "bookworm"
_TAKEN: Final = ("type", "group", "name", "version", "scope", "licenses", "hashes", "purl")
"""What is taken of a component in a wheel's own bill. The rest is how and where it was built."""


def cyclonedx(
    image_name: str,
    digest: str,
    version: str,
    *,
    debs: Sequence[DebPin],
    wheels: Sequence[WheelPin],
    source: Mapping[str, bytes],
    bundled: Mapping[str, Sequence[bytes]],
) -> bytes:
    """Return the bill of one image as JSON, without a time and without anything of the machine that makes it.

    Args:
        image_name: Such as `mcbn-client`.
        digest: The image's, `sha256:` and 64 hex digits.
        version: The version of our own source.
        debs: Debian packages in it.
        wheels: Python packages in it.
        source: Our own files, by path in the image.
        bundled: By wheel name, the bills that a wheel carries of the libraries compiled into it; see `bundled_bills`.

    Raises:
        InputError: A wheel's own bill is not CycloneDX in JSON.
    """
    image = _image(image_name, digest, version)
    components = [
        *map(_deb, debs),
        *(_wheel(pin, bundled.get(pin.name, ())) for pin in wheels),
        *(_file(path, data) for path, data in sorted(source.items())),
    ]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": image},
        "components": components,
        "dependencies": [{"ref": image["bom-ref"], "dependsOn": sorted(one["bom-ref"] for one in components)}],
    }
    return _json(bill | {"serialNumber": f"urn:uuid:{_serial(_json(bill))}"})


def bundled_bills(wheels: Iterable[tuple[WheelPin, Path]]) -> dict[str, tuple[bytes, ...]]:
    """Return, by wheel name, the bills in its `.dist-info/sboms` (PEP 770), where it has any.

    The wheel's hash is pinned, and so what it says of the libraries in it: cryptography names its OpenSSL there.

    Raises:
        InputError: A wheel cannot be read.
    """
    found = {pin.name: tuple(_read_bills(pin, path)) for pin, path in wheels}
    return {name: bills for name, bills in found.items() if bills}


def _read_bills(pin: WheelPin, path: Path) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                folder, _, rest = name.partition(".dist-info/sboms/")
                if rest.endswith(".json") and "/" not in folder:
                    yield archive.read(name)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{pin.filename}: {error}") from error


def _image(name: str, digest: str, version: str) -> dict[str, Any]:
    purl = f"pkg:oci/{name}@{_quote(digest)}"
    return {"type": "container", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _deb(pin: DebPin) -> dict[str, Any]:
    purl = f"pkg:deb/debian/{_quote(pin.name)}@{_quote(pin.version)}?arch={pin.architecture}&distro={_DISTRIBUTION}"
    return _library(pin, purl)


def _wheel(pin: WheelPin, bills: Sequence[bytes]) -> dict[str, Any]:
    component = _library(pin, f"pkg:pypi/{_quote(pin.name)}@{_quote(pin.version)}")
    parts = [part for bill in bills for part in _parts(pin, bill)]
    return component | ({"components": parts} if parts else {})


def _library(pin: DebPin | WheelPin, purl: str) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": purl,
        "name": pin.name,
        "version": pin.version,
        "purl": purl,
        "hashes": _sha256(pin.sha256),
    }


def _file(path: str, data: bytes) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:/{path}",
        "name": f"/{path}",
        "hashes": _sha256(hashlib.sha256(data).hexdigest()),
    }


def _parts(pin: WheelPin, bill: bytes) -> Iterator[dict[str, Any]]:
    """Give the components that a wheel says are compiled into it, with references of their own in our bill."""
    try:
        for part in json.loads(bill)["components"]:
            taken = {name: part[name] for name in _TAKEN if name in part}
            reference = part.get("purl") or f"{part['name']}@{part['version']}"
            yield taken | {"bom-ref": f"{pin.name}:{reference}"}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{pin.filename}: its own bill of materials is not CycloneDX in JSON ({error!r})") from error


def _sha256(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _serial(content: bytes) -> uuid.UUID:
    """A name-based UUID (RFC 9562, version 5): another content has another serial number."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"urn:sha256:{hashlib.sha256(content).hexdigest()}")


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _json(value: object) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=2) + "\n").encode("ascii")
