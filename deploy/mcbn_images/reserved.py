"""Where an application may not put a file: there it would change what the base image does, though it replaces nothing.

Sources: CPython 3.11, Modules/getpath.py and Lib/importlib; ld.so(8) and glibc 2.36, elf/dl-load.c; OpenSSL, config(5).
"""

import re
from collections.abc import Iterable
from typing import Final

from mcbn_images.errors import InputError
from mcbn_images.tree import Entry, Kind

_RESERVED: Final = {
    "the workload is the base's": r"(.*/)?(mcbn_protocol|mcbn_workload)(/.*)?",
    "Python would run it at each start": r"(.*/)?[^/]*\.pth|(.*/)?(sitecustomize|usercustomize)([./].*)?",
    "Python runs compiled code in place of the source that was read; leave it out": (
        r"(.*/)?__pycache__(/.*)?|.*\.py[co]"
    ),
    "the standard library is the base's": r"usr/lib/python3\.11/.*|usr/lib/python311\.zip",
    # Modules/getpath.py looks for each of these before it takes /usr/lib/python3.11, isolated (`-I`) or not.
    "Python would take its standard library from elsewhere": (
        r"(.*/)?pyvenv\.cfg|usr/bin/([^/]*\._pth|pybuilddir\.txt|(lib|Lib|Modules)(/.*)?)"
    ),
    # Before a directory itself, the loader looks into those below it that are for some processors only.
    "the loader would take libraries from it before the base's": (
        r"etc/ld\.so\..*|usr/lib/(x86_64-linux-gnu/)?(glibc-hwcaps|tls|x86_64|haswell|avx512_1)(/.*)?"
    ),
    # Where Debian's OpenSSL and the one inside `cryptography` look; it may name code to load.
    "OpenSSL would be configured by it": r"usr/lib/ssl/openssl\.cnf|opt/pyca(/.*)?",
    "the workload's configuration is workload.toml alone": r"etc/mcbn/.*",
}
"""Why not -> the paths."""

_LINKED: Final = {"opt"}
"""Directories above a reserved path that a base image lacks: as a link, one would lead around the check."""

_PACKAGES: Final = re.compile(r"usr/(?:local/)?lib/python3(?:\.[0-9]+)?/(?:dist|site)-packages/([^/]+)(?:/.*)?")
_METADATA: Final = (".dist-info", ".egg-info")


class Reserved:
    """The paths that are reserved above one base image."""

    def __init__(self, base: Iterable[str]) -> None:
        """Take note of the base's Python modules; `base` are the paths of its files, without a slash at the start."""
        self._modules = {module for path in base if (module := _module_of(path)) is not None}

    def check(self, path: str, entry: Entry) -> None:
        """Check a path that the base image does not have.

        Raises:
            InputError: What is put there would change what the base image does.
        """
        why = self._why_not(path, entry.kind)
        if why is not None:
            raise InputError(f"/{path} would change what the base image does: {why}")

    def _why_not(self, path: str, kind: Kind) -> str | None:
        for why, paths in _RESERVED.items():
            if re.fullmatch(paths, path, re.DOTALL):
                return why
        if kind is Kind.LINK and path in _LINKED:
            return "as a link it may lead to anything"
        module = _module_of(path)
        return f"{module} is the base's, with all its files" if module in self._modules else None


def _module_of(path: str) -> str | None:
    """Return the top-level module that a path belongs to, where Python looks for packages; else None.

    `x/`, `x.py` and `x.abi3.so` are all the module `x`: which of them Python takes depends on its order of search.
    """
    found = _PACKAGES.fullmatch(path)
    if found is None:
        return None
    name = found[1]
    return name if name.endswith(_METADATA) else name.partition(".")[0]
