"""Adds an application to a workload image as one more layer, so that the result is as reproducible as its base."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcbn_images.debs import read_deb
from mcbn_images.errors import InputError, UsageError
from mcbn_images.images import CONFIGURATION, exposed_ports
from mcbn_images.locks import check_debs, check_wheels
from mcbn_images.oci import Image, root_of
from mcbn_images.pins import DebPin
from mcbn_images.reserved import Reserved
from mcbn_images.rootfs import application_layer
from mcbn_images.sources import Sources
from mcbn_images.tree import Entry, Kind, Tree, check_path
from mcbn_images.wheels import wheels_layer

_TEXTS: Final = ("name", "base", "files", "destination", "workload_toml", "requirements")
_LISTS: Final = ("packages", "entrypoint", "cmd")
_PATHS: Final = ("files", "workload_toml", "requirements")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DEBS_LOCK: Final = "debs.lock"
WHEELS_LOCK: Final = "wheels.lock"


@dataclass(frozen=True, kw_only=True)
class Extension:
    """What a specification file says; paths in it are relative to it.

    Attributes:
        folder: Where the file is, and beside it the locks `debs.lock` and `wheels.lock`.
        name: The new image's name.
        base: The digest that the base image must have; None to take any.
        files: A folder with the application; None if there is none.
        destination: Where its files go in the image.
        workload_toml: What replaces /etc/mcbn/workload.toml; None to keep it.
        requirements: A requirements lock, of which `wheels.lock` is made; None for no more wheels.
        packages: Debian packages by name, of which `debs.lock` is made.
        entrypoint: What replaces the entry point; None to keep it.
        cmd: What replaces the arguments after it; None to keep them.
    """

    folder: Path
    name: str
    base: str | None = None
    files: str | None = None
    destination: str = "opt/application"
    workload_toml: str | None = None
    requirements: str | None = None
    packages: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None

    def layer(self, sources: Sources) -> Tree:
        """Return the application's files, packages and wheels.

        Raises:
            ImagesError: An input is missing or not as its lock says, or two of them are at one path.
        """
        tree = Tree()
        if self.packages:
            found = sources.get_debs(self.deb_pins())
            tree.merge(application_layer((pin, read_deb(path)) for pin, path in found))
        if self.requirements is not None:
            pins = check_wheels(self.folder / WHEELS_LOCK, self.folder / self.requirements)
            tree.merge(wheels_layer(sources.get_wheels(pins)))
        if self.files is not None:
            _add_folder(tree, self.folder / self.files, self.destination)
        if self.workload_toml is not None:
            tree.add_file(CONFIGURATION, _read(self.folder / self.workload_toml))
        return tree

    def deb_pins(self) -> tuple[DebPin, ...]:
        """Return the pins of the packages.

        Raises:
            UsageError: There is no lock, or it does not have the packages that are named.
        """
        return check_debs(self.folder / DEBS_LOCK, sorted(self.packages))


def read_extension(path: Path) -> Extension:
    """Read a specification, in TOML.

    Raises:
        UsageError: It cannot be read, or has a member that is not known or of another type.
    """
    try:
        members = tomllib.loads(_read(path).decode("utf-8"))
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    _check_members(path, members)
    for name in _PATHS:
        if name in members and not (path.parent / members[name]).resolve().is_relative_to(path.parent.resolve()):
            raise UsageError(f"{path}: {name} leads out of the specification's folder")
    values: dict[str, Any] = {name: tuple(value) if name in _LISTS else value for name, value in members.items()}
    if "destination" in values:
        values["destination"] = values["destination"].strip("/")
        check_path(values["destination"])
    return Extension(folder=path.parent, **values)


def extend(base: Image, extension: Extension, sources: Sources) -> Image:
    """Return the base image with the application's layer on top.

    Raises:
        UsageError: The base has another digest than the specification says.
        InputError: The layer would replace a file of the base, other than the workload's configuration, or would
            change what the base does in another way.
        ImagesError: An input is missing or not as its lock says.
    """
    if base.foreign is not None:
        raise UsageError(f"the base image {base.digest} was not written by this program: build it with `make images`")
    if extension.base not in {None, base.digest}:
        raise UsageError(f"the base image is {base.digest}, but the specification says {extension.base}")
    below = root_of(base)
    layer = _above(below, extension.layer(sources))
    config = dict(base.config)
    config |= {"Labels": {**config.get("Labels", {}), "org.opencontainers.image.title": extension.name}}
    if extension.entrypoint is not None:
        config["Entrypoint"] = list(extension.entrypoint)
    if extension.cmd is not None:
        config["Cmd"] = list(extension.cmd)
    if CONFIGURATION in layer.entries:
        config.pop("ExposedPorts", None)
        data = layer.entries[CONFIGURATION].data
        config |= exposed_ports(role_of(data), data)
    return Image(config, (*base.layers, layer.archive()))


def role_of(workload_toml: bytes) -> str:
    """Return the role that a configuration says.

    Raises:
        UsageError: It is no such file.
    """
    try:
        role = tomllib.loads(workload_toml.decode("utf-8")).get("role")
    except ValueError as error:
        raise UsageError(f"workload.toml: {error}") from error
    if role not in {"client", "server"}:
        raise UsageError('workload.toml has to say role = "client" or "server"')
    return str(role)


def _above(below: Mapping[str, Entry], layer: Tree) -> Tree:
    """Leave out of a layer what is below it already, such as a package that both have."""
    reserved, kept = Reserved(below), Tree()
    for path, entry in layer.entries.items():
        existing = below.get(path)
        if existing is None or path == CONFIGURATION:
            if path != CONFIGURATION:
                reserved.check(path, entry)
            kept.entries[path] = entry
        elif existing != entry and Kind.DIRECTORY not in {existing.kind, entry.kind}:
            raise InputError(f"/{path} is in the base image, with other content: an application may only add files")
        elif existing.kind is not entry.kind:
            raise InputError(f"/{path} is a {existing.kind} in the base image, and would become a {entry.kind}")
    return kept


def _add_folder(tree: Tree, folder: Path, destination: str) -> None:
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder")
    for path in sorted(folder.rglob("*")):
        if "__pycache__" in path.parts:
            continue
        place = f"{destination}/{path.relative_to(folder).as_posix()}"
        if path.is_symlink():
            tree.add_link(place, str(path.readlink()))
        elif path.is_file():
            # Only the owner's bit: the others follow the umask of whoever checked the files out.
            tree.add_file(place, path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))


def _check_members(path: Path, members: Mapping[str, Any]) -> None:
    unknown = members.keys() - {*_TEXTS, *_LISTS}
    if unknown:
        raise UsageError(f"{path}: {' '.join(sorted(unknown))} is not known")
    if "name" not in members:
        raise UsageError(f"{path}: name is missing")
    for name, value in members.items():
        texts = value if isinstance(value, list) and name in _LISTS else [value] if name in _TEXTS else [None]
        if not all(isinstance(text, str) and text for text in texts):
            raise UsageError(f"{path}: {name} has to be {'a list of texts' if name in _LISTS else 'a text'}")
    if not _NAME.fullmatch(members["name"]):
        raise UsageError(f"{path}: name has to be lower-case letters, digits, '.', '_' and '-': it names a folder")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
