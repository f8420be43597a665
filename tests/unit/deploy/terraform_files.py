"""Reads Terraform's files with python-hcl2, in the plain form in which tests compare them."""

from pathlib import Path
from typing import Any

import hcl2

TERRAFORM = Path(__file__).resolve().parents[3] / "deploy" / "terraform"


def read(folder: str) -> dict[str, list[Any]]:
    """Return all blocks of a folder, by kind."""
    blocks: dict[str, list[Any]] = {}
    for path in sorted((TERRAFORM / folder).glob("*.tf")):
        with path.open() as file:
            for kind, found in hcl2.load(file).items():
                blocks.setdefault(kind, []).extend(found)
    return plain(blocks)


def plain(value: Any) -> Any:
    """Return a value without the reader's marks: texts without quotes, expressions without `${}`."""
    if isinstance(value, dict):
        return {plain(name): plain(member) for name, member in value.items() if name != "__is_block__"}
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    if isinstance(value, str) and value.startswith("${") and value.endswith("}"):
        return value[2:-1]
    return value


def named(blocks: dict[str, list[Any]], kind: str) -> dict[str, Any]:
    """Return variables, outputs or modules by their names."""
    return {name: body for block in blocks.get(kind, []) for name, body in block.items()}


def resources(blocks: dict[str, list[Any]]) -> dict[str, Any]:
    """Return resources as {"type.name": body}."""
    return {
        f"{kind}.{name}": body
        for block in blocks["resource"]
        for kind, found in block.items()
        for name, body in found.items()
    }


def one(value: Any) -> Any:
    """Return the only block of its kind."""
    (only,) = value
    return only
