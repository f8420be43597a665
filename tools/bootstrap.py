"""Make `.venv` from the dev lock, unless it is already the one that the lock and pyproject.toml describe.

Runs on whatever `python3` is there, so this file stays readable for an old one: it has to say which Python is needed.
"""

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORTED = ((3, 11), (3, 12), (3, 13))


def interpreter_problem(version, has_module):
    """Return why this interpreter cannot make the environment and what to do about it, or an empty string.

    Args:
        version: `(major, minor)` of the interpreter.
        has_module: tells whether a standard module of this name is installed.
    """
    number = "{}.{}".format(*version)
    if tuple(version) not in SUPPORTED:
        return (
            f"Python {number} is not supported: install Python 3.11, 3.12 or 3.13; if it is not what `python3` starts, "
            "name it: make PYTHON=python3.11"
        )
    if not (has_module("venv") and has_module("ensurepip")):
        return (
            f"Python {number} cannot make virtual environments: its venv or ensurepip module is missing. On Debian and "
            f"Ubuntu install the package python3-venv (python{number}-venv if this is not the default Python)."
        )
    return ""


def main():
    """Make the environment if it is missing, half-made or out of date; return the exit status."""
    problem = interpreter_problem(sys.version_info[:2], lambda name: importlib.util.find_spec(name) is not None)
    if problem:
        sys.stderr.write(f"bootstrap: {problem}\n")
        return 1
    # The kernel drops this lock with the process, so a killed bootstrap blocks nobody. The folder is locked, not a file
    # in it, so that `make clean` cannot take the lock away.
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        return make_environment(ROOT)
    finally:
        os.close(folder)


def make_environment(root):
    """Make `.venv` below `root` unless its stamp is there; the stamp is written last, so a half-made one is remade."""
    from inputs import environment_digest  # noqa: PLC0415 - needs tomllib, so only after the version check

    environment = root / ".venv"
    stamp = environment / ".stamp-{}".format(environment_digest(root, "{}.{}".format(*sys.version_info[:2])))
    if stamp.exists():
        return 0
    shutil.rmtree(environment, ignore_errors=True)
    sys.stderr.write("bootstrap: making .venv from requirements/dev.txt; this takes about a minute\n")
    for command in commands(environment):
        status = run(command, root)
        if status:
            sys.stderr.write("bootstrap: the last command failed; the next make starts .venv anew\n")
            return status
    stamp.touch()
    return 0


def commands(environment):
    """Return the commands that make the environment. One pip command cannot check hashes and install a folder."""
    # Of an activated environment, which may be the very one being replaced, this is the interpreter behind it.
    python = os.path.realpath(sys.executable)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install"]
    return [
        [python, "-m", "venv", str(environment)],
        [*pip, "--require-hashes", "--only-binary", ":all:", "-r", "requirements/dev.txt"],
        [*pip, "--no-deps", "--no-build-isolation", "--no-index", "-e", "."],
    ]


def run(command, root):
    """Run one command, shown on standard error, and return its exit status."""
    sys.stderr.write("+ {}\n".format(" ".join(command)))
    sys.stderr.flush()
    # Standard output stays free for the target that make was asked for.
    quiet = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_QUIET="1")
    return subprocess.run(command, cwd=str(root), env=quiet, stdout=sys.stderr, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
