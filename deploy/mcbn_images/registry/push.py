"""Pushes an image, reads its manifest back, and fails if that is another one."""

import hashlib
from collections.abc import Callable

import httpx

from mcbn_images.errors import DifferentError, UsageError
from mcbn_images.registry.authentication import CredentialSource, RegistryAuth
from mcbn_images.registry.client import TIMEOUT, RegistryClient
from mcbn_images.registry.layout import Layout
from mcbn_images.registry.reference import Reference

Say = Callable[[str], None]


def push(
    layout: Layout, reference: Reference, credentials: CredentialSource, say: Say, *, insecure_http: bool = False
) -> str:
    """Publish an image by its digest, and by its tag if there is one.

    Args:
        layout: The image.
        reference: Where to.
        credentials: Asked when the registry wants some.
        say: Is told of the progress.
        insecure_http: Allow plain HTTP to a registry that is not on this machine.

    Returns:
        `REGISTRY/REPOSITORY@sha256:DIGEST`, the only name under which it should be deployed.

    Raises:
        DifferentError: What the registry gives back is not what was pushed.
        RegistryError: It cannot be reached, or refuses.
        UsageError: Credentials would go over plain HTTP.
    """
    scheme = "http" if reference.is_loopback or insecure_http else "https"
    origin = httpx.URL(f"{scheme}://{reference.host}{reference.port}")

    def is_allowed(url: httpx.URL) -> bool:
        if reference.is_google and url.host != reference.host:
            return False
        return url.scheme == "https" or (url.scheme == scheme and url.host == origin.host)

    if reference.is_google and scheme != "https":
        raise UsageError("Google's credentials never go over plain HTTP: leave out --insecure-http")
    with httpx.Client(
        base_url=origin,
        auth=RegistryAuth(origin, credentials, is_allowed),
        timeout=TIMEOUT,
        trust_env=not reference.is_loopback,
    ) as http:
        _push(layout, reference.tag, RegistryClient(http, reference), say)
    return f"{reference.name}@{layout.digest}"


def _push(layout: Layout, tag: str | None, client: RegistryClient, say: Say) -> None:
    for number, blob in enumerate(layout.blobs, start=1):
        title = f"blob {number} of {len(layout.blobs)}, {blob.size:,} bytes, {blob.digest[:19]}"
        if client.has_blob(blob.digest):
            say(f"{title}: is there")
        else:
            say(f"{title}: uploading")
            client.upload(blob)
    for name in [layout.digest, *([tag] if tag else [])]:
        client.put_manifest(name, layout.media_type, layout.manifest)
        _compare(layout, name, client.get_manifest(name, layout.media_type))
        say(f"manifest {name}: read back, unchanged")


def _compare(layout: Layout, name: str, read_back: bytes) -> None:
    digest = f"sha256:{hashlib.sha256(read_back).hexdigest()}"
    if digest != layout.digest:
        raise DifferentError(
            f"the registry changed the image: {layout.digest} was pushed, but under {name} it gives {digest}. "
            "Participants agreed on the first: do not deploy this one, and use a registry that keeps manifests as "
            "they are"
        )
