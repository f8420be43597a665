"""The page that says what is in the images: layers, wheels, packages, and our own lines of code."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from mcbn_images.definitions import IMAGES
from mcbn_images.images import Builder
from mcbn_images.tree import Kind, Tree
from mcbn_images.wheels import wheel_tree

_HEAD: Final = """\
<!-- Made by `make record`. Do not edit. -->

# What is in the images

Sizes are in bytes, uncompressed, as they are in the image. The workload images differ in `/etc/mcbn/workload.toml`, the
last word of their command, and their labels. The digests for the example roster are in
[example-digests.json](../../deploy/images/example-digests.json).
"""
_OWN: Final = {
    "protocol": "both workload images, the broker image",
    "workload": "both workload images",
    "broker": "the broker image",
}
_LAYERS: Final = ("Debian packages", "wheels", "our own source and configuration")


def contents_page(builder: Builder) -> str:
    """Return docs/reference/images.md.

    Raises:
        ImagesError: A lock, an input or the source is not as it must be.
    """
    sections = {
        "Layers": _table(("image", "layer", "files", "bytes"), _layers(builder)),
        "Trusted computing base of a workload: our own code": _table(
            ("folder", "in", "modules", "lines", "of which code"), _own_code(builder)
        )
        + "\nA line counts as code unless it is blank, a comment, or part of a docstring.\n",
        "Trusted computing base of a workload: wheels": _wheels(builder, "server"),
        "Debian packages, the same in each image": _debs(builder),
        "Wheels of the broker image": _wheels(builder, "broker"),
    }
    return _HEAD + "".join(f"\n## {title}\n\n{text}" for title, text in sections.items())


def _layers(builder: Builder) -> Iterator[tuple[str, ...]]:
    for image in IMAGES:
        for what, layer in zip(_LAYERS, builder.layers(image), strict=True):
            yield image, what, str(_files(layer)), _number(layer.size())


def _own_code(builder: Builder) -> Iterator[tuple[str, ...]]:
    for name, images in _OWN.items():
        sources = [path for path in builder.definitions.source_files(f"{name}/mcbn_{name}") if path.suffix == ".py"]
        lines = [path.read_text(encoding="utf-8").splitlines() for path in sources]
        code = sum(_code_lines(path) for path in sources)
        yield f"`{name}/`", images, str(len(sources)), _number(sum(map(len, lines))), _number(code)


def _code_lines(path: Path) -> int:
    """Count lines that hold code: neither blank, nor a comment, nor a text that is a statement of its own."""
    text = path.read_text(encoding="utf-8")
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documented.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), start=1)
    return sum(
        1 for number, line in lines if number not in documented and line.strip() and not line.strip().startswith("#")
    )


def _wheels(builder: Builder, image: str) -> str:
    found = builder.sources.get_wheels(builder.wheel_pins(image))
    trees = [(pin, wheel_tree(pin, path)) for pin, path in found]
    rows = [(pin.name, pin.version, _native(tree), str(_files(tree)), _number(tree.size())) for pin, tree in trees]
    total = _number(sum(tree.size() for _, tree in trees))
    columns = ("wheel", "version", "machine code", "files", "bytes")
    return f"{len(rows)} wheels, {total} bytes.\n\n{_table(columns, rows)}"


def _debs(builder: Builder) -> str:
    rows = [(pin.name, pin.version, _number(pin.size)) for pin in builder.deb_pins]
    return _table(("package", "version", "bytes of the .deb"), rows)


def _native(tree: Tree) -> str:
    size = sum(len(entry.data) for path, entry in tree.entries.items() if ".so" in path.rpartition("/")[2])
    return _number(size) if size else "none"


def _files(tree: Tree) -> int:
    return sum(entry.kind is Kind.FILE for entry in tree.entries.values())


def _number(value: int) -> str:
    return f"{value:,}"


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
