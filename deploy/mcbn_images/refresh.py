"""Makes the locks anew, from what apt and pip would give this machine now."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mcbn_images.definitions import Definitions
from mcbn_images.errors import InputError, UsageError
from mcbn_images.extension import DEBS_LOCK, WHEELS_LOCK, Extension
from mcbn_images.finders import PIP_DOWNLOAD, file_hash, run_in
from mcbn_images.locks import PACKAGE, VERSION, new_deb_pin, read_requirements, write_debs, write_wheels
from mcbn_images.pins import DebPin, WheelPin

# In printable ASCII, since pip has its own view of what ends a line; without `$`, since it puts variables in.
_REQUIREMENT: Final = re.compile(
    rf"[A-Za-z0-9][A-Za-z0-9._-]*=={VERSION}( *;((?! -)[ -#%-~])*)?( +--hash=sha256:[0-9a-f]{{64}})+ *"
)
_FIELDS: Final = ("Package", "Version", "Architecture", "Filename", "SHA256", "Size")


def refresh(definitions: Definitions) -> list[Path]:
    """Write every lock, and return their paths.

    Raises:
        InputError: apt or pip does not know something that is asked for.
        UsageError: A list of packages or requirements cannot be read.
    """
    # All is looked up before anything is written, so that the locks stay of one day.
    debs = [newest_deb(name) for name in definitions.package_names()]
    wheels = {lock: resolve_wheels(requirements) for lock, requirements in definitions.wheel_locks().items()}
    write_debs(definitions.debs_lock, debs)
    for lock, pins in wheels.items():
        write_wheels(lock, pins)
    return [definitions.debs_lock, *definitions.wheel_locks()]


def refresh_extension(extension: Extension) -> list[Path]:
    """Write the locks beside a specification, and return their paths.

    Raises:
        InputError: apt or pip does not know something that is asked for.
        UsageError: The requirements cannot be read.
    """
    written = []
    if extension.packages:
        written.append(extension.folder / DEBS_LOCK)
        write_debs(written[-1], [newest_deb(name) for name in extension.packages])
    if extension.requirements is not None:
        written.append(extension.folder / WHEELS_LOCK)
        write_wheels(written[-1], resolve_wheels(extension.folder / extension.requirements))
    return written


def newest_deb(name: str) -> DebPin:
    """Return what apt would install of a package.

    Raises:
        InputError: apt has no such package, or is not there.
        UsageError: It is no package's name.
    """
    if not re.fullmatch(PACKAGE, name):
        raise UsageError(f"{name!r} is no name of a Debian package")
    try:
        result = subprocess.run(
            ["apt-cache", "show", "--no-all-versions", name], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise InputError("apt-cache is not installed: refresh the locks on a Debian machine") from error
    found = dict(re.findall(rf"^({'|'.join(_FIELDS)}): (.+)$", result.stdout, flags=re.MULTILINE))
    if set(found) != set(_FIELDS):
        raise InputError(f"apt has no package {name}: run apt-get update, or take it out of the list")
    return new_deb_pin([found[field] for field in _FIELDS])


def resolve_wheels(requirements: Path) -> list[WheelPin]:
    """Return the one wheel for each requirement that fits the images' Python and machine.

    Raises:
        InputError: pip finds none, or gives one that the requirements do not admit.
        UsageError: The requirements have something else in them than pins with hashes.
    """
    pinned, admitted = _pinned(requirements), read_requirements(requirements)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checked = folder / "requirements.txt"
        checked.write_text("".join(f"{line}\n" for line in pinned), encoding="ascii")
        problem = run_in(folder, [*PIP_DOWNLOAD, "--dest", ".", "--requirement", str(checked)])
        if problem:
            raise InputError(f"pip cannot get the wheels of {requirements.name}: {problem} (Python: {sys.executable})")
        return list(_pins(folder, admitted))


def _pinned(path: Path) -> list[str]:
    """Return a lock's pins, one in a line and nothing else: an option could make pip run code that somebody sent.

    These lines are what pip reads, and never the file: what is a comment here could be a line of its own to pip.

    Raises:
        UsageError: It cannot be read, or has something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    uncommented = re.sub(r"(^|\s)#.*", "", text, flags=re.MULTILINE)
    lines = [line for line in uncommented.replace("\\\n", " ").split("\n") if line.strip()]
    for line in lines:
        if not _REQUIREMENT.fullmatch(line):
            raise UsageError(f"{path.name}: {line.strip()[:60]!r} is no NAME==VERSION with --hash=sha256:... alone")
    return lines


def _pins(folder: Path, admitted: dict[str, tuple[str, frozenset[str], bool]]) -> Iterator[WheelPin]:
    for path in sorted(folder.glob("*.whl")):
        distribution, version = path.name.split("-")[:2]
        name = re.sub(r"[-_.]+", "-", distribution).lower()
        if name not in admitted:
            raise UsageError(f"{path.name} is in no requirements lock")
        yield WheelPin(name, version, path.name, file_hash(path))
