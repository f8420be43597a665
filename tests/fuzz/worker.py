"""The process of one target: makes its seeds and dictionary, and hands it to libFuzzer, which never comes back."""

import hashlib
import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

atheris: Final[Any] = importlib.import_module("atheris")  # has no types, and no wheels but for Linux on x86-64

INSTRUMENTED = ("mcbn_protocol", "mcbn_broker", "mcbn_workload", "jwt")
MAX_BYTES = 16 * 1024


def load(path: Path) -> ModuleType:
    """Import a target; what it imports of our packages is instrumented on the way."""
    spec = importlib.util.spec_from_file_location(f"fuzz_target_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        spec.loader.exec_module(module)
    return module


def write_seeds(module: ModuleType, folder: Path) -> list[str]:
    """Write the seeds; return the flag that lists them, for the order of a folder's files differs between two runs."""
    for seed in module.seeds():
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    inputs = folder.with_name("inputs")
    inputs.write_text(",".join(str(path) for path in sorted(folder.iterdir())), encoding="utf-8")
    return [f"-seed_inputs=@{inputs}"]


def write_words(words: Sequence[bytes], path: Path) -> list[str]:
    """Write libFuzzer's dictionary; return the flag for it."""
    lines = ['"' + "".join(f"\\x{byte:02x}" for byte in word) + '"' for word in dict.fromkeys(words) if word]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return [f"-dict={path}"] if lines else []


def mutator(module: ModuleType) -> dict[str, Callable[..., bytes]]:
    """A target whose input is JSON gets one that keeps it JSON: libFuzzer's own seldom passes the parser."""
    if not getattr(module, "JSON", False):
        return {}
    from tests.fuzz.json_mutator import JsonMutator  # noqa: PLC0415  # only where it is wanted

    def mutate_bytes(data: bytes, size: int) -> bytes:
        changed: bytes = atheris.Mutate(data, size)  # looked up now: `Fuzz` replaces it
        return changed

    return {"custom_mutator": JsonMutator(mutate_bytes, getattr(module, "WORDS", ()))}


def main(path: Path, flags: list[str]) -> Any:
    logging.disable(logging.CRITICAL)
    module = load(path)
    if flags[0] == "--seeds":
        folder = Path(flags[1])
        made = write_seeds(module, folder) + write_words(getattr(module, "WORDS", ()), folder.with_name("words"))
        flags = [f"-max_len={getattr(module, 'MAX_BYTES', MAX_BYTES)}", *made, *flags[2:]]
    atheris.Setup([path.stem, *flags], module.target, **mutator(module))
    atheris.Fuzz()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
