"""Make the lock files with uv, and record what they were made from.

Existing pins are kept, so that adding one dependency does not move the others; `--upgrade` takes the newest of all.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from inputs import COMPILE_OPTIONS, EXTRAS, RECORD, ROOT, lock_path, record_lines


def compile_lock(extra: str, flags: list[str]) -> None:
    """Resolve one extra into its lock file.

    Raises:
        subprocess.CalledProcessError: uv found no solution or could not reach the package index.
    """
    uv = Path(sys.executable).with_name("uv")
    lock = lock_path(extra).relative_to(ROOT)
    subprocess.run(
        [uv, "pip", "compile", "--quiet", *COMPILE_OPTIONS, *flags, "--extra", extra, "-o", lock, "pyproject.toml"],
        cwd=ROOT,
        check=True,
    )


def main() -> int:
    """Make every lock, `dev` first: the others begin as its copy, so what is shipped is what was tested."""
    flags = [flag for flag in sys.argv[1:] if flag]
    first, *others = EXTRAS
    compile_lock(first, flags)
    for extra in others:
        shutil.copyfile(lock_path(first), lock_path(extra))
        compile_lock(extra, [])
    RECORD.write_text("".join(f"{line}\n" for line in record_lines()), encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main())
