"""Looks for one locked file in one place: a directory, an archive's URL, the machine's own apt, or pip's index."""

import hashlib
import http.client
import importlib.util
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from mcbn_images.errors import UsageError
from mcbn_images.pins import DebPin, WheelPin

Finder = Callable[[], Path | str]
"""Looks in one place: the file, or why it was not found."""

APT: Final = "apt"
_SECONDS: Final = 300
_GLIBC: Final = range(36, 4, -1)
"""Minor versions of glibc 2 whose wheels run on Debian 12's, the newest first (PEP 600)."""

PIP_DOWNLOAD: Final = (
    *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
    *("--only-binary", ":all:", "--no-deps", "--require-hashes", "--python-version", "3.11", "--implementation", "cp"),
    *("--abi", "cp311", "--abi", "abi3", "--abi", "none"),
    *(part for minor in _GLIBC for part in ("--platform", f"manylinux_2_{minor}_x86_64")),
    *("--platform", "manylinux2014_x86_64", "--platform", "linux_x86_64"),
)
"""How pip is told what the images run on, whatever it runs on itself."""


def find_deb(place: str, pin: DebPin, folder: Path) -> Path | str:
    """Look for a Debian package.

    Args:
        place: `apt`, a directory, or an http or https URL below which `pool/` is, or the files themselves.
        pin: The package.
        folder: Where to put what is downloaded.
    """
    if place == APT:
        return by_apt([pin], folder).get(pin.sha256) or _first(folder) or f"apt-get download: {_complaint(folder)}"
    if urllib.parse.urlsplit(place).scheme in {"http", "https"}:
        return _by_url(place, pin, folder)
    return _in_directory(Path(place), pin.filename)


def find_wheel(place: Path | None, pin: WheelPin, folder: Path) -> Path | str:
    """Look for a wheel.

    Args:
        place: A directory; None for pip, on the index that it is configured with.
        pin: The wheel.
        folder: Where to put what is downloaded.

    Raises:
        UsageError: There is no pip.
    """
    if place is not None:
        return _in_directory(place, pin.filename)
    return by_pip([pin], folder).get(pin.sha256) or _first(folder) or f"pip download: {_complaint(folder)}"


def by_apt(pins: Sequence[DebPin], folder: Path) -> dict[str, Path]:
    """Ask the machine's own apt, which needs no root for this; return what came by its SHA-256."""
    command = ["apt-get", "download", "--quiet", "--quiet", *(f"{pin.name}={pin.version}" for pin in pins)]
    return _run_for_files(command, folder)


def by_pip(pins: Sequence[WheelPin], folder: Path) -> dict[str, Path]:
    """Let pip look on its index, where the hashes leave it one file for each; return what came by its SHA-256.

    Raises:
        UsageError: There is no pip.
    """
    if importlib.util.find_spec("pip") is None:
        raise UsageError(f"{sys.executable} has no pip to get wheels with: use another Python, or give --wheels DIR")
    requirements = folder / "requirements.txt"
    lines = [f"{pin.name}=={pin.version} --hash=sha256:{pin.sha256}\n" for pin in pins]
    requirements.write_text("".join(lines), encoding="ascii")
    return _run_for_files([*PIP_DOWNLOAD, "--dest", ".", "--requirement", str(requirements)], folder)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_in(folder: Path, command: Sequence[str]) -> str:
    """Run a program and return the last line of its complaint, or nothing if it went well."""
    program = shutil.which(command[0])
    if program is None:
        return f"{command[0]} is not installed"
    result = subprocess.run([program, *command[1:]], cwd=folder, capture_output=True, text=True, check=False)
    lines = [line for line in result.stderr.splitlines() if line.strip()] or [f"exit status {result.returncode}"]
    return lines[-1] if result.returncode else ""


def _run_for_files(command: Sequence[str], folder: Path) -> dict[str, Path]:
    (folder / "complaint").write_text(run_in(folder, command) or "nothing came", encoding="utf-8")
    return {file_hash(path): path for path in _inputs(folder)}


def _inputs(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.deb"), *folder.glob("*.whl")])


def _first(folder: Path) -> Path | None:
    """Return a file that came though its hash is another one, so that the caller can say so."""
    return next(iter(_inputs(folder)), None)


def _complaint(folder: Path) -> str:
    return (folder / "complaint").read_text(encoding="utf-8")


def _in_directory(folder: Path, filename: str) -> Path | str:
    """Find a file in a directory, by its path in an archive or by its last part."""
    for path in (folder / filename, folder / Path(filename).name):
        if path.is_file():
            return path
    return f"not in {folder}"


def _by_url(url: str, pin: DebPin, folder: Path) -> Path | str:
    problem = ""
    for part in (pin.filename, Path(pin.filename).name):
        address = f"{url.rstrip('/')}/{urllib.parse.quote(part)}"
        try:
            with urllib.request.urlopen(address, timeout=_SECONDS) as answer:  # noqa: S310  # http and https only
                target = folder / Path(pin.filename).name
                target.write_bytes(answer.read(pin.size + 1))
                return target
        except (OSError, http.client.HTTPException) as error:  # also one that breaks off within the file
            problem = str(getattr(error, "reason", error))
    return problem
