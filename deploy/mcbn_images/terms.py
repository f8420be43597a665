"""The reference values of a workload image, as the lines of a terms file that say the same."""

import json
from collections.abc import Mapping
from typing import Final

from mcbn_images.labels import ADDRESS, OVERRIDE
from mcbn_images.oci import Image

_HEAD: Final = """\
# Reference values of the {role} image, for [[roles.{role}.evidence]] in the terms of `mcbn-broker manifest template`.
# Its operator can set {variables}: of these, admit in [roles.{role}.evidence.env_override] those that he may.
"""


def workload_role(image: Image) -> str | None:
    """Return the role of a workload image by its operator's variables, or None for another image."""
    variables = _overrides(image)
    return next((role for role, name in ADDRESS.items() if name in variables), None)


def terms(role: str, image: Image) -> str:
    """Return the lines for `[[roles.ROLE.evidence]]`, in TOML.

    Args:
        role: `client` or `server`.
        image: The image that plays it.
    """
    head = _HEAD.format(role=role, variables=", ".join(_overrides(image)))
    values = {"image_digests": [image.digest], "args": arguments(image), "env": environment(image)}
    return head + "".join(f"{name} = {_toml(value)}\n" for name, value in values.items())


def arguments(image: Image) -> list[str]:
    """Return what the token's claim `args` says of a machine that runs the image."""
    return [*image.config.get("Entrypoint", []), *image.config.get("Cmd", [])]


def environment(image: Image) -> dict[str, str]:
    """Return what the token's claim `env` says, without what the operator overrides and the launcher's HOSTNAME."""
    return dict(item.split("=", 1) for item in image.config.get("Env", []))


def _overrides(image: Image) -> list[str]:
    return str(image.config.get("Labels", {}).get(OVERRIDE, "")).split(",")


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + " }"
    return json.dumps(value)  # texts and arrays of texts are written alike in both
