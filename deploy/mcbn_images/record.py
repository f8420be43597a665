"""Notes down the digests for the example roster and the page about the images' contents, or checks what is noted."""

import json
from pathlib import Path

from mcbn_images.definitions import IMAGES, Definitions
from mcbn_images.errors import DifferentError, UsageError
from mcbn_images.images import Builder
from mcbn_images.output import digests_json
from mcbn_images.report import contents_page


def record(builder: Builder) -> list[Path]:
    """Build the images and write down their digests and contents; return the files that were written.

    Raises:
        ImagesError: A lock, an input or the source is not as it must be.
    """
    expected = _expected(builder)
    for path, text in expected.items():
        path.write_text(text, encoding="utf-8")
    return list(expected)


def check_record(builder: Builder) -> None:
    """Build the images and compare with what is written down.

    Raises:
        DifferentError: The source, a lock or a definition has changed since then.
        ImagesError: A lock, an input or the source is not as it must be.
    """
    problems = [problem for path, text in _expected(builder).items() for problem in _problems(path, text)]
    if problems:
        raise DifferentError(
            "\n".join([*problems, "The source, a lock or a definition has changed. Record it: make record, and commit"])
        )


def _expected(builder: Builder) -> dict[Path, str]:
    definitions: Definitions = builder.definitions
    images = {name: builder.build(name) for name in IMAGES}
    page = definitions.root / "docs" / "reference" / "images.md"
    return {definitions.folder / "example-digests.json": digests_json(images), page: contents_page(builder)}


def _problems(path: Path, expected: str) -> list[str]:
    try:
        recorded = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}. Make it: make record") from error
    if recorded == expected:
        return []
    if path.suffix != ".json":
        return [f"{path.name} does not say what is in the images"]
    old, new = json.loads(recorded), json.loads(expected)
    return [f"{name}: recorded {old.get(name)}, built {new[name]}" for name in new if old.get(name) != new[name]]
