"""The registry's HTTP API: the requests of the OCI distribution specification 1.1 that a push needs."""

import contextlib
import re
from collections.abc import Iterator
from typing import Final

import httpx

from mcbn_images.errors import RegistryError
from mcbn_images.registry.layout import Blob
from mcbn_images.registry.reference import Reference

TIMEOUT: Final = httpx.Timeout(30, read=300, write=300)
"""Seconds. A registry may take its time to digest a large layer."""

_CODE: Final = re.compile(r"[A-Z_]{1,40}")
_MANIFEST_BYTES: Final = 4 << 20
"""The specification's limit for a manifest."""


class RegistryClient:
    """One repository of a registry.

    Args:
        http: Makes the requests; its base address is the registry's.
        reference: Names the repository.
    """

    def __init__(self, http: httpx.Client, reference: Reference) -> None:
        self._http = http
        self._base = f"/v2/{reference.repository}"
        self._host = reference.host

    def has_blob(self, digest: str) -> bool:
        """Ask whether a blob is there ("Checking if content exists in the registry").

        Raises:
            RegistryError: No answer, or another one.
        """
        with self._mapped("look for a blob"):
            response = self._http.head(f"{self._base}/blobs/{digest}", follow_redirects=True)
        return self._expect(response, "look for a blob", httpx.codes.OK, httpx.codes.NOT_FOUND) == httpx.codes.OK

    def upload(self, blob: Blob) -> None:
        """Send a blob in one piece, straight from its file ("POST then PUT").

        Raises:
            RegistryError: The registry does not take it.
        """
        with self._mapped("begin an upload"):
            response = self._http.post(f"{self._base}/blobs/uploads/")
        self._expect(response, "begin an upload", httpx.codes.ACCEPTED)
        place = self._location(response)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        with self._mapped("upload a blob"):
            response = self._http.put(place.copy_add_param("digest", blob.digest), content=blob, headers=headers)
        self._expect(response, "upload a blob", httpx.codes.CREATED)

    def put_manifest(self, name: str, media_type: str, manifest: bytes) -> None:
        """Store an image manifest under a digest or a tag ("Pushing Manifests").

        Raises:
            RegistryError: The registry does not take it.
        """
        with self._mapped("store the manifest"):
            response = self._http.put(
                f"{self._base}/manifests/{name}", content=manifest, headers={"Content-Type": media_type}
            )
        self._expect(response, "store the manifest", httpx.codes.CREATED)

    def get_manifest(self, name: str, media_type: str) -> bytes:
        """Return what the registry has under a digest or a tag ("Pulling manifests").

        Raises:
            RegistryError: It has nothing there, or something too large.
        """
        with self._mapped("read the manifest back"):
            response = self._http.get(f"{self._base}/manifests/{name}", headers={"Accept": media_type})
        self._expect(response, "read the manifest back", httpx.codes.OK)
        if len(response.content) > _MANIFEST_BYTES:
            raise RegistryError(f"{self._host}: the manifest that came back has {len(response.content)} bytes")
        return response.content

    def _location(self, response: httpx.Response) -> httpx.URL:
        """Where an upload goes on: an address, absolute or not, at the same registry or at another host over TLS."""
        try:
            place = response.url.join(response.headers["Location"])
        except (KeyError, httpx.InvalidURL) as error:
            raise RegistryError(f"{self._host} does not say where an upload goes on") from error
        if place.scheme != response.url.scheme:
            raise RegistryError(f"{self._host} sends the upload from {response.url.scheme} to {place.scheme}")
        return place

    @contextlib.contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RegistryError(
                f"cannot {what} at {self._host}: {type(error).__name__} {error}. Check the address, and push again: "
                "what is there already is not sent twice"
            ) from error

    def _expect(self, response: httpx.Response, what: str, *expected: httpx.codes) -> int:
        if response.status_code in expected:
            return response.status_code
        hint = ""
        if response.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            hint = ". Whoever pushes needs the right to write to this repository (roles/artifactregistry.writer)"
        raise RegistryError(f"{self._host} refuses to {what}: status {response.status_code}{_codes(response)}{hint}")


def _codes(response: httpx.Response) -> str:
    """Return the specification's error codes in an answer, and nothing else of it: it might repeat what was sent."""
    try:
        found = [str(error["code"]) for error in response.json()["errors"]]
    except (ValueError, KeyError, TypeError):
        return ""
    return "".join(f", {code}" for code in found if _CODE.fullmatch(code))
