"""Reads what an image says of itself, from the OCI layout that the image builder wrote."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mcbn_simulator.errors import SimulatorError


class LayoutError(SimulatorError):
    """There is no image where one should be."""


@dataclass(frozen=True)
class BuiltImage:
    """What a token says of the image that a machine runs.

    Attributes:
        digest: Of its manifest, `sha256:...`.
        image_id: Of its configuration, `sha256:...`.
        entrypoint: Its entry point.
        cmd: Its command.
        env: Its own environment.
    """

    digest: str
    image_id: str
    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]
    env: Mapping[str, str]

    @classmethod
    def read(cls, layout: Path) -> Self:
        """Read a layout of one image (OCI Image Format Specification 1.1, image-layout).

        Raises:
            LayoutError: It is not there, or not a layout.
        """
        try:
            (descriptor,) = _json(layout / "index.json")["manifests"]
            image_id = _json(_blob(layout, descriptor["digest"]))["config"]["digest"]
            config = _json(_blob(layout, image_id))["config"]
            return cls(
                digest=descriptor["digest"],
                image_id=image_id,
                entrypoint=tuple(config.get("Entrypoint", ())),
                cmd=tuple(config.get("Cmd", ())),
                env=dict(one.split("=", 1) for one in config.get("Env", ())),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LayoutError(
                f"{layout} is no OCI layout of one image ({error!r}): build it with make images"
            ) from error


def _blob(layout: Path, digest: str) -> Path:
    algorithm, _, value = digest.partition(":")
    return layout / "blobs" / algorithm / value


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())
