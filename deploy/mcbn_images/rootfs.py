"""The lowest layer: Debian packages unpacked, with what their install scripts would have done done here."""

import re
from collections.abc import Iterable
from typing import Final

from mcbn_images.debs import Deb
from mcbn_images.errors import InputError
from mcbn_images.pins import DebPin
from mcbn_images.tree import Kind, Tree

USER: Final = 65532
"""The user that every image runs as; it owns nothing but a broker's data directory."""

CA_BUNDLE: Final = "etc/ssl/certs/ca-certificates.crt"
_CERTIFICATES: Final = "usr/share/ca-certificates"

_MERGED: Final = ("bin", "sbin", "lib", "lib64")
"""Directories that are links into /usr, as on every installed Debian 12."""

_DROPPED: Final = re.compile(
    r"usr/share/(?:man|info|locale|lintian|bug|gcc|gdb|doc-base|base-files|pixmaps|menu)(?:/.*)?"
    r"|usr/share/doc/(?!.*/copyright$).+"  # licences stay
    r"|usr/s?bin/(?!python3\.11$).+"  # no program but the interpreter
    # Their libraries are not there: curses, readline, Berkeley DB, NIS.
    r"|usr/lib/python3\.11/lib-dynload/(?:_curses|_curses_panel|_dbm|nis|readline)\..+"
    r"|usr/lib/x86_64-linux-gnu/(?:gconv|audit|libmvec\.so.*|perl.*)(?:/.*)?"
    r"|etc/(?:update-motd\.d|profile\.d|skel|default|ca-certificates|dpkg|issue.*)(?:/.*)?"
    r"|var/(?:backups|lib/dpkg|lib/misc|local|mail|opt|spool)(?:/.*)?"
    r"|usr/(?:games|include|src|local/(?:games|include|src|man|sbin|etc))(?:/.*)?"
)
_PROGRAMS: Final = re.compile(r"usr/s?bin/.+")
_NOTHING: Final = re.compile(r"(?!)")
_STICKY: Final = ("tmp", "var/tmp", "run/lock")
_PASSWD: Final = f"root:x:0:0:root:/:/nonexistent\nmcbn:x:{USER}:{USER}:mcbn:/nonexistent:/nonexistent\n"
_GROUP: Final = f"root:x:0:\nmcbn:x:{USER}:\n"
_NSSWITCH: Final = "passwd: files\ngroup: files\nhosts: files dns\n"


def base_layer(packages: Iterable[tuple[DebPin, Deb]]) -> Tree:
    """Return the root directory that packages make, without documentation, programs and translations.

    Raises:
        InputError: Two packages disagree about a file, or one has an unknown kind of link.
    """
    tree = Tree()
    for name in _MERGED:
        tree.add_link(name, f"usr/{name}")
    for pin, deb in packages:
        _add_package(tree, pin, deb)
    _add_bundle(tree)
    tree.add_file("etc/passwd", _PASSWD.encode())
    tree.add_file("etc/group", _GROUP.encode())
    tree.add_file("etc/nsswitch.conf", _NSSWITCH.encode())
    return tree


def application_layer(packages: Iterable[tuple[DebPin, Deb]]) -> Tree:
    """Return what more packages add to an image that has a root directory already, with their programs.

    Raises:
        InputError: Two packages disagree about a file.
    """
    tree = Tree()
    for pin, deb in packages:
        _add_package(tree, pin, deb, _PROGRAMS)
    return tree


def _add_package(tree: Tree, pin: DebPin, deb: Deb, kept: re.Pattern[str] = _NOTHING) -> None:
    for original, entry in sorted(deb.files.entries.items()):
        path = _merged(original)
        if kept.fullmatch(path) or not _DROPPED.fullmatch(path):
            if entry.kind is Kind.FILE:
                tree.add_file(path, entry.data, executable=bool(entry.mode & 0o111))
            elif entry.kind is Kind.LINK:
                tree.add_link(path, entry.target)
            elif path not in _MERGED:
                tree.add_directory(path, 0o1777 if path in _STICKY else 0o755)
    # Scanners of images that have no dpkg look here for what is installed.
    tree.add_file(f"var/lib/dpkg/status.d/{pin.name}", deb.control)


def _merged(path: str) -> str:
    top, slash, rest = path.partition("/")
    return f"usr/{top}{slash}{rest}" if top in _MERGED else path


def _add_bundle(tree: Tree) -> None:
    """Write the CA bundle that update-ca-certificates would have written, in the order of the files' names."""
    certificates = [entry.data for path, entry in tree.under(_CERTIFICATES) if path.endswith(".crt")]
    if not certificates:
        raise InputError("no CA certificates: the package ca-certificates is missing in the lock")
    tree.add_file(CA_BUNDLE, b"".join(data if data.endswith(b"\n") else data + b"\n" for data in certificates))
    tree.add_link("usr/lib/ssl/cert.pem", f"/{CA_BUNDLE}")  # where OpenSSL, and so Python, looks by default
