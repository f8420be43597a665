"""Puts the three images together: what lies in which layer, and what an engine is told about it."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from mcbn_images.debs import read_deb
from mcbn_images.definitions import IMAGES, WORKLOADS, Definitions
from mcbn_images.errors import UsageError
from mcbn_images.labels import launch_policy
from mcbn_images.locks import check_debs, check_wheels
from mcbn_images.oci import Image
from mcbn_images.pins import DebPin, WheelPin
from mcbn_images.rootfs import USER, base_layer
from mcbn_images.roster import RosterFile
from mcbn_images.sources import Sources
from mcbn_images.tree import Tree
from mcbn_images.wheels import wheels_layer

PYTHON: Final = ("/usr/bin/python3.11", "-I", "-m")
"""Isolated: neither the working directory nor any PYTHON* variable decides what is imported."""

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The only variable. Engines set it anyway, to this value; `manifest template` expects it."""

CONFIGURATION: Final = "etc/mcbn/workload.toml"
STATE: Final = "var/lib/mcbn-broker"
"""Where a volume belongs. The data directory is a folder in it, which a restore can move aside."""
_PORT: Final = {"client": None, "server": 7443, "broker": 8443}


@dataclass(frozen=True)
class Builder:
    """Builds images from one source tree and one set of locks.

    Attributes:
        definitions: The source tree.
        sources: Where locked files come from.
        roster: Whose network the workload images are for.
    """

    definitions: Definitions
    sources: Sources
    roster: RosterFile

    def build(self, image: str) -> Image:
        """Return an image by name.

        Raises:
            ImagesError: A lock, an input or the source is not as it must be.
        """
        layers = self.layers(image)
        check_disjoint(layers)
        return Image(self.config(image), (self._base_archive, *(layer.archive() for layer in layers[1:])))

    def layers(self, image: str) -> list[Tree]:
        """Return an image's layers, the lowest first: Debian's packages, wheels, our own source.

        Raises:
            ImagesError: A lock, an input or the source is not as it must be.
        """
        return [self._base, wheels_layer(self.sources.get_wheels(self.wheel_pins(image))), self._own(image)]

    def wheel_pins(self, image: str) -> tuple[WheelPin, ...]:
        """Return the wheels of an image.

        Raises:
            UsageError: The lock is not one, or does not fit its requirements.
        """
        return check_wheels(*self.definitions.wheel_lock(image))

    @cached_property
    def deb_pins(self) -> tuple[DebPin, ...]:
        """The Debian packages of every image.

        Raises:
            UsageError: The lock is not one, or does not fit its list of names.
        """
        return check_debs(self.definitions.debs_lock, self.definitions.package_names())

    @cached_property
    def _base(self) -> Tree:
        return base_layer((pin, read_deb(path)) for pin, path in self.sources.get_debs(self.deb_pins))

    @cached_property
    def _base_archive(self) -> bytes:
        return self._base.archive()

    def _own(self, image: str) -> Tree:
        tree = self.definitions.source(image)
        if image == "broker":
            tree.add_directory(STATE, mode=0o700, owner=USER)
        elif image in WORKLOADS:
            tree.add_file(CONFIGURATION, self._workload_toml(image))
            tree.add_file("etc/mcbn/roster.json", self.roster.data)
        return tree

    def _workload_toml(self, image: str) -> bytes:
        return self.definitions.read(f"deploy/images/{image}.toml")

    def config(self, image: str) -> dict[str, Any]:
        """Return the `config` member of an image's configuration.

        Raises:
            UsageError: The source tree lacks something.
        """
        labels = {
            "org.opencontainers.image.title": f"mcbn-{image}",
            "org.opencontainers.image.version": self.definitions.version(),
        }
        config: dict[str, Any] = {"User": str(USER), "WorkingDir": "/", "Env": [f"PATH={PATH}"]}
        if image == "broker":
            config |= {"Entrypoint": [*PYTHON, "mcbn_broker"], "Cmd": ["serve"], "StopSignal": "SIGTERM"}
            config["Env"].append(f"MCBN_DATA_DIR=/{STATE}/data")
            config["ExposedPorts"] = {f"{_PORT[image]}/tcp": {}}
        elif image == "simulator":
            config |= {"Entrypoint": [*PYTHON, "mcbn_simulator"], "Cmd": ["--help"]}
        else:
            config |= {"Entrypoint": [*PYTHON, "mcbn_workload"], "Cmd": [image]}
            labels |= launch_policy(image, self.roster.names)
            config |= exposed_ports(image, self._workload_toml(image))
        return config | {"Labels": labels}


def exposed_ports(role: str, workload_toml: bytes) -> dict[str, Any]:
    """Return the port that the launcher opens to the network for a server; for a client, nothing.

    Raises:
        UsageError: The configuration is not TOML.
    """
    port = _PORT[role]
    if port is None:
        return {}
    try:
        channel = str(tomllib.loads(workload_toml.decode("utf-8")).get("channel"))
    except ValueError as error:
        raise UsageError(f"the {role}'s workload.toml: {error}") from error
    return {"ExposedPorts": {f"{port}/{'udp' if channel.startswith('dtls') else 'tcp'}": {}}}


def check_disjoint(layers: Sequence[Tree]) -> None:
    """Check that no layer hides a file of a lower one.

    Raises:
        InputError: One does.
    """
    whole = Tree()
    for layer in layers:
        whole.merge(layer)


__all__ = ["IMAGES", "Builder"]
