"""Reads and writes the locks: for each wheel and each Debian package one line, with the one file that is admitted."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Final

from mcbn_images.errors import UsageError
from mcbn_images.pins import DebPin, WheelPin

_WHEELS_HEAD: Final = "# name version file sha256. Made by `mcbn-images lock`.\n"
_DEBS_HEAD: Final = "# name version architecture file sha256 bytes. Made by `mcbn-images lock`.\n"
# Names and versions go on to pip and apt, which would take a path, an address or a variable in their place.
VERSION: Final = r"[A-Za-z0-9.!+]+"
PACKAGE: Final = r"[a-z0-9][a-z0-9+.-]+"
_WHEEL: Final = re.compile(rf"([a-z0-9][a-z0-9._-]*) ({VERSION}) ([A-Za-z0-9_.!+-]+\.whl) ([0-9a-f]{{64}})")
_DEB: Final = re.compile(
    rf"({PACKAGE}) ([A-Za-z0-9.+~:-]+) (amd64|all) (pool/[A-Za-z0-9_.+~/-]+\.deb) ([0-9a-f]{{64}}) (\d+)"
)
_REQUIREMENT: Final = re.compile(rf"([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==({VERSION})(?=[\s;\\])( ;[^\\]+)?")
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def read_wheels(path: Path) -> tuple[WheelPin, ...]:
    """Read a lock of wheels.

    Raises:
        UsageError: It cannot be read, a line has another form, or a name comes twice or out of order.
    """
    pins = [WheelPin(*fields) for fields in _fields(path, _WHEEL)]
    _check_order(path, [pin.name for pin in pins])
    return tuple(pins)


def read_debs(path: Path) -> tuple[DebPin, ...]:
    """Read a lock of Debian packages.

    Raises:
        UsageError: It cannot be read, a line has another form, or a name comes twice or out of order.
    """
    pins = [new_deb_pin(fields) for fields in _fields(path, _DEB)]
    _check_order(path, [pin.name for pin in pins])
    return tuple(pins)


def check_debs(lock: Path, names: Sequence[str]) -> tuple[DebPin, ...]:
    """Read a lock of Debian packages that has exactly these names.

    Raises:
        UsageError: It has others.
    """
    pins = read_debs(lock)
    if [pin.name for pin in pins] != list(names):
        raise _stale(lock, "its packages are not those of the list")
    return pins


def new_deb_pin(fields: Sequence[str]) -> DebPin:
    """Return a pin from its six fields, as texts in the order of a lock's line."""
    name, version, architecture, filename, sha256, size = fields
    return DebPin(name, version, architecture, filename, sha256, int(size))


def write_wheels(path: Path, pins: Iterable[WheelPin]) -> None:
    """Write a lock of wheels."""
    _write(path, _WHEELS_HEAD, pins)


def write_debs(path: Path, pins: Iterable[DebPin]) -> None:
    """Write a lock of Debian packages."""
    _write(path, _DEBS_HEAD, pins)


def read_requirements(path: Path) -> dict[str, tuple[str, frozenset[str], bool]]:
    """Read a requirements lock: name -> version, the SHA-256 of every admitted file, and whether it has a condition.

    Raises:
        UsageError: It cannot be read.
    """
    found = {}
    for block in re.split(r"^(?=[a-z0-9])", _text(path), flags=re.MULTILINE):
        match = _REQUIREMENT.match(block)
        if match:
            found[match[1]] = (match[2], frozenset(_HASH.findall(block)), match[3] is not None)
    return found


def check_wheels(lock: Path, requirements: Path) -> tuple[WheelPin, ...]:
    """Read a lock of wheels, each of which the requirements lock admits, by name, version and hash.

    Raises:
        UsageError: A wheel is not in the requirements, or a requirement without a condition has no wheel.
    """
    pins, required = read_wheels(lock), read_requirements(requirements)
    for pin in pins:
        version, hashes, _ = required.get(pin.name, ("", frozenset(), False))
        if (pin.version, pin.sha256 in hashes) != (version, True):
            raise _stale(lock, f"{pin.filename} is not in {requirements.name}")
    missing = {name for name, (_, _, conditional) in required.items() if not conditional} - {pin.name for pin in pins}
    if missing:
        raise _stale(lock, f"{' '.join(sorted(missing))} of {requirements.name} has no wheel in it")
    return pins


def _stale(lock: Path, problem: str) -> UsageError:
    return UsageError(f"{lock.name}: {problem}. Refresh the locks, review the difference: mcbn-images lock")


def _fields(path: Path, pattern: re.Pattern[str]) -> list[tuple[str, ...]]:
    found = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line and not line.startswith("#"):
            match = pattern.fullmatch(line)
            if match is None:
                raise UsageError(f"{path.name}, line {number} has another form: make it with `mcbn-images lock`")
            found.append(match.groups())
    return found


def _check_order(path: Path, names: list[str]) -> None:
    if names != sorted(set(names)):
        raise UsageError(f"{path.name}: names must ascend and be there once: make it with `mcbn-images lock`")
    if not names:
        raise UsageError(f"{path.name} is empty: make it with `mcbn-images lock`")


def _write(path: Path, head: str, pins: Iterable[WheelPin | DebPin]) -> None:
    lines = [" ".join(str(field) for field in astuple(pin)) for pin in sorted(pins, key=lambda pin: pin.name)]
    path.write_text(head + "".join(f"{line}\n" for line in lines), encoding="ascii")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no {path}: make it with `mcbn-images lock` (an application's: --spec FILE)"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
