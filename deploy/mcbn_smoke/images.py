"""The smoke test's images: those of everybody, built around its own roster, with its application on top."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcbn_images.images import CONFIGURATION
from mcbn_images.oci import read_image, root_of
from mcbn_protocol.identifiers import Role
from mcbn_simulator.demo.processes import Supervisor, script
from mcbn_smoke import application
from mcbn_smoke.certificates import trusted_name
from mcbn_smoke.errors import SmokeError

BUILD_SECONDS: Final = 900.0
FOLDER: Final = "usr/lib/mcbn-smoke"
"""Where the application is, in the image."""

_DESTINATION: Final = "usr/lib"
_TRUSTED: Final = "ssl/certs"  # below the destination: where OpenSSL, and so the workload, looks for more authorities


@dataclass(frozen=True)
class Builder:
    """The image builder's command.

    Attributes:
        command: The program and what comes before its own command's name.
        sources: Where packages and wheels come from: the options of `build` and `extend`.
    """

    command: Sequence[str] = ()
    sources: Sequence[str] = ()

    async def run(self, supervisor: Supervisor, name: str, *words: str | Path) -> None:
        """Run it to its end.

        Raises:
            SmokeError: It fails.
        """
        program, *first = self.command or [script("mcbn-images")]
        process = await supervisor.start(name, program, *first, *words, *self.sources)
        if await process.ended(BUILD_SECONDS) != 0:
            raise SmokeError(f"The images could not be built ({name}).", process.tail())


@dataclass(frozen=True)
class Layouts:
    """Where the images are, as OCI layouts.

    Attributes:
        roles: By role, the image on which everybody agrees.
        changed: The client's with a file more, on which nobody does.
    """

    roles: Mapping[Role, Path]
    changed: Path


async def build_images(
    builder: Builder, roster: Path, place: Mapping[str, Any], folder: Path, supervisor: Supervisor
) -> Layouts:
    """Build both workload images, each with the application of its role, and a changed one.

    Args:
        builder: The image builder.
        roster: The participants'.
        place: Where the applications report to: `host`, `port` and `ca`; and the server's `page`.
        folder: Where they are built.
        supervisor: Runs the builder.

    Raises:
        SmokeError: An image cannot be built.
    """
    await builder.run(supervisor, "images", "build", "--roster", roster, "--out", folder / "base")

    async def extend(role: Role, name: str, more: Mapping[str, bytes]) -> Path:
        base, out = folder / "base" / role, folder / "extended"
        specification = _specify(name, base, place, folder / f"{name}-application", more)
        await builder.run(supervisor, f"{name}-image", "extend", base, "--spec", specification, "--out", out)
        return out / f"mcbn-smoke-{name}"

    return Layouts(
        roles={role: await extend(role, role.value, {}) for role in Role},
        changed=await extend(Role.CLIENT, "changed", {"mcbn-smoke/something": b"that nobody has reviewed\n"}),
    )


def _specify(name: str, base: Path, place: Mapping[str, Any], folder: Path, more: Mapping[str, bytes]) -> Path:
    """Write what is added to an image; returns the specification."""
    files = {
        **more,
        "mcbn-smoke/application.py": Path(application.__file__).read_bytes(),
        "mcbn-smoke/report.json": json.dumps(dict(place)).encode(),
        f"{_TRUSTED}/{trusted_name(place['ca'].encode())}": place["ca"].encode(),
    }
    for below, data in files.items():
        path = folder / "files" / below
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    settings = root_of(read_image(base))[CONFIGURATION].data.decode()
    command = ["/usr/bin/python3.11", "-I", f"/{FOLDER}/application.py", f"/{CONFIGURATION}", f"/{FOLDER}/report.json"]
    (folder / "workload.toml").write_text(f"{settings}\n[application]\ncommand = {json.dumps(command)}\n")
    members = {
        "name": f"mcbn-smoke-{name}",
        "files": "files",
        "destination": _DESTINATION,
        "workload_toml": "workload.toml",
    }
    specification = folder / "application.toml"
    specification.write_text("".join(f"{member} = {json.dumps(value)}\n" for member, value in members.items()))
    return specification
