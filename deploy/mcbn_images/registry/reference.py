"""Where an image is to go: a registry's host, a repository, a tag."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from mcbn_images.errors import UsageError

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST: Final = r"(?P<host>localhost|\[[0-9a-f:]+\]|[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?P<port>:[0-9]{1,5})?"
_REFERENCE: Final = re.compile(
    rf"{_HOST}/(?P<repository>{_COMPONENT}(?:/{_COMPONENT})*)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}))?"
)
"""Names and tags as in the distribution specification, "Pulling manifests"."""


@dataclass(frozen=True)
class Reference:
    """A repository in a registry, and perhaps a tag.

    Attributes:
        host: The registry's, without a port.
        port: `:` and a number, or nothing.
        repository: Such as `project/mcbn/client`.
        tag: Also set to the image, or None to push by digest alone.
    """

    host: str
    port: str
    repository: str
    tag: str | None

    @property
    def name(self) -> str:
        """The repository with its registry; `@` and a digest after it name an image."""
        return f"{self.host}{self.port}/{self.repository}"

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine, by its address or as `localhost`."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_google(self) -> bool:
        """Whether the registry is Artifact Registry or its older name; only these are shown Google's credentials."""
        return self.host.endswith((".pkg.dev", ".gcr.io")) or self.host == "gcr.io"


def read_reference(text: str) -> Reference:
    """Read `REGISTRY/REPOSITORY[:TAG]`.

    Raises:
        UsageError: It has another form; a host has a dot or a port, or is `localhost`.
    """
    match = _REFERENCE.fullmatch(text)
    if match is None or not ("." in match["host"] or match["port"] or match["host"].startswith(("localhost", "["))):
        raise UsageError(
            f"{text!r} is not REGISTRY/REPOSITORY[:TAG], such as europe-west4-docker.pkg.dev/PROJECT/mcbn/client:1. "
            "A digest cannot be chosen: it is the layout's"
        )
    return Reference(match["host"], match["port"] or "", match["repository"], match["tag"])
