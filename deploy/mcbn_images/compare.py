"""Says in which files, labels and settings two images differ."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from mcbn_images.oci import Image, digest_of, root_of
from mcbn_images.tree import Entry, Kind

_FORM: Final = (
    "what this program cannot name, so do not sign for it: it is in another form than this program writes, in which "
    "others may read other files or settings than stand here, or differs in times, groups, extended attributes or notes"
)


def printable(text: str) -> str:
    """Return text with everything but printable characters escaped: an image's names are its maker's words."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def differences(expected: Image, other: Image) -> list[str]:
    """Return one line for each difference of another image from the expected one; none if they are the same.

    Layers are compared as the root directory that they make together, so files have to differ for lines to come of it.
    A last line says so where the lines before it may not be all. What could move a terminal's cursor is escaped.
    """
    found = (*_compare_config(expected.config, other.config), *_compare_files(root_of(expected), root_of(other)))
    lines = [printable(line) for line in found]
    if expected.digest != other.digest and not (lines and other.is_in_our_form()):
        lines.append(_FORM)
    return lines


def _compare_files(expected: Mapping[str, Entry], other: Mapping[str, Entry]) -> Iterator[str]:
    for path in sorted(expected.keys() | other.keys()):
        if path not in other:
            yield f"removed: /{path}"
        elif path not in expected:
            yield f"added: /{path}"
        else:
            yield from (f"changed: /{path}: {text}" for text in _compare_entries(expected[path], other[path]))


def _compare_entries(expected: Entry, other: Entry) -> Iterator[str]:
    if expected.kind is not other.kind:
        yield f"a {expected.kind} became a {other.kind}"
        return
    if expected.mode != other.mode:
        yield f"mode {expected.mode:04o} became {other.mode:04o}"
    if expected.owner != other.owner:
        yield f"owner {expected.owner} became {other.owner}"
    if expected.target != other.target:
        yield f"leads to {other.target}, not to {expected.target}"
    if expected.kind is Kind.FILE and expected.data != other.data:
        yield f"content {digest_of(expected.data)} became {digest_of(other.data)}"


def _compare_config(expected: Mapping[str, Any], other: Mapping[str, Any], name: str = "config") -> Iterator[str]:
    for key in sorted(expected.keys() | other.keys()):
        old, new = expected.get(key), other.get(key)
        if old != new:
            if isinstance(old, Mapping) and isinstance(new, Mapping):
                yield from _compare_config(old, new, f"{name}.{key}")
            else:
                yield f"changed: {name}.{key}: {_said(old)} became {_said(new)}"


def _said(value: object) -> str:
    return "nothing" if value is None else repr(value)
