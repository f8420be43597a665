"""Gets the locked files, and keeps them in a cache. A file counts by its hash alone, wherever it came from."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mcbn_images.errors import InputError, SupersededError, UsageError
from mcbn_images.finders import APT, Finder, by_apt, by_pip, file_hash, find_deb, find_wheel
from mcbn_images.pins import DebPin, WheelPin

Pin = TypeVar("Pin", WheelPin, DebPin)


def default_cache() -> Path:
    """Return where downloaded files are kept for the next build."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "mcbn-images"


@dataclass(frozen=True)
class Sources:
    """Where locked files may come from.

    Attributes:
        cache: Where every file that was found is kept.
        debs: For Debian packages, in order: `apt`, a directory, or a URL below which `pool/` is, or the files.
        wheels: A directory with the wheels; None for pip and the index that it is configured with.
    """

    cache: Path
    debs: Sequence[str] = (APT,)
    wheels: Path | None = None

    def get_debs(self, pins: Iterable[DebPin]) -> list[tuple[DebPin, Path]]:
        """Return each package with its file.

        Raises:
            SupersededError: No source has some of them any more.
            InputError: A source gives another file under the same name and version.
        """
        batch = by_apt if self.debs[0] == APT else _nothing
        return self._get(pins, batch, lambda pin, folder: [_later(find_deb, place, pin, folder) for place in self.debs])

    def get_wheels(self, pins: Iterable[WheelPin]) -> list[tuple[WheelPin, Path]]:
        """Return each wheel with its file.

        Raises:
            SupersededError: No source has some of them any more.
            InputError: A source gives another file under the same name and version.
            UsageError: There is neither a directory nor pip.
        """
        batch = by_pip if self.wheels is None else _nothing
        return self._get(pins, batch, lambda pin, folder: [_later(find_wheel, self.wheels, pin, folder)])

    def _get(
        self,
        pins: Iterable[Pin],
        batch: Callable[[Sequence[Pin], Path], dict[str, Path]],
        finders: Callable[[Pin, Path], list[Finder]],
    ) -> list[tuple[Pin, Path]]:
        """Take what is in the cache, ask for all the rest at once, and then for each that is still missing."""
        files = [(pin, self.cache / Path(pin.filename).name) for pin in pins]
        absent = [(pin, path) for pin, path in files if not (path.is_file() and file_hash(path) == pin.sha256)]
        if absent:
            try:
                self.cache.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(
                    f"cannot keep files in {self.cache}: {error.strerror}. Name a folder: --cache"
                ) from error
            with tempfile.TemporaryDirectory(dir=self.cache) as name:
                together = batch([pin for pin, _ in absent], Path(name)) if len(absent) > 1 else {}
                for pin, path in absent:
                    if pin.sha256 in together:
                        _keep(together[pin.sha256], path)
                self._get_each([(pin, path) for pin, path in absent if pin.sha256 not in together], finders)
        return files

    def _get_each(self, absent: Iterable[tuple[Pin, Path]], finders: Callable[[Pin, Path], list[Finder]]) -> None:
        missing: dict[str, list[str]] = {}
        for pin, path in absent:
            with tempfile.TemporaryDirectory(dir=self.cache) as folder:
                problems = _fetch(pin, path, finders(pin, Path(folder)))
            if problems:
                missing[pin.name] = [f"{pin.name} {pin.version}: {problem}" for problem in problems]
        if missing:
            raise SupersededError(list(missing), [line for lines in missing.values() for line in lines])


def _fetch(pin: WheelPin | DebPin, target: Path, finders: Iterable[Finder]) -> list[str]:
    """Move the locked file to its place in the cache; return what each source said if none has it."""
    problems = []
    for find in finders:
        answer = find()
        if isinstance(answer, str):
            problems.append(answer)
            continue
        if (found := file_hash(answer)) != pin.sha256:
            raise InputError(
                f"{target.name}: the lock says SHA-256 {pin.sha256}, but what was found has {found}. One version has "
                "one file: find out which of the two is false before you refresh the lock"
            )
        _keep(answer, target)
        return []
    return problems


def _keep(found: Path, target: Path) -> None:
    """Copy a file into the cache in one step, whoever else builds at the same time."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(found, temporary)
    temporary.replace(target)


def _later(find: Callable[..., Path | str], *arguments: object) -> Finder:
    return lambda: find(*arguments)


def _nothing(_pins: object, _folder: Path) -> dict[str, Path]:
    return {}
