"""Programs that stand for gcloud and ssh: they record what they are asked, and fail where a test says so."""

import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
DIGEST = "sha256:" + "5a" * 32
IMAGE = f"europe-west4-docker.pkg.dev/demo-project/mcbn/client@{DIGEST}"

_PROGRAM = """\
#!{python} -IS
import json, os, sys, time
from pathlib import Path
folder = Path({folder!r})
words = [Path(sys.argv[0]).name, *sys.argv[1:]]
with (folder / "calls").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
line = " ".join(words)
for rule in json.loads((folder / "rules").read_text()):
    if rule["when"] in line:
        if rule["once"]:
            mark = folder / ("once-" + str(rule["number"]))
            if mark.exists():
                continue
            mark.touch()
        sys.stderr.write(rule["err"])
        sys.stdout.write(rule["out"])
        sys.stdout.flush()
        while rule["until"] and not (folder / rule["until"]).exists():
            time.sleep(0.02)
        (folder / "done").touch()
        if rule["stays"]:
            time.sleep(3600)
        sys.exit(rule["status"])
"""


@dataclass
class Fakes:
    """The programs, in a folder that comes first on PATH."""

    folder: Path

    def __post_init__(self) -> None:
        self.rules: list[dict[str, Any]] = []
        (self.folder / "bin").mkdir()
        self.answer("value(projectId)", "demo-project\n")
        for name in ("gcloud", "ssh", "mcbn-images"):
            path = self.folder / "bin" / name
            path.write_text(_PROGRAM.format(python=sys.executable, folder=str(self.folder)))
            path.chmod(0o755)

    @property
    def path(self) -> str:
        return f"{self.folder / 'bin'}:{os.environ['PATH']}"

    def answer(
        self,
        when: str,
        out: str = "",
        *,
        err: str = "",
        status: int = 0,
        once: bool = False,
        until: str = "",
        stays: bool = False,
    ) -> None:
        """Say what comes of a command line that contains a text; the first rule that fits holds."""
        number = len(self.rules)
        self.rules.append(
            {"when": when, "out": out, "err": err, "status": status, "once": once, "until": until, "stays": stays}
            | {"number": number}
        )
        self._write_rules()

    @property
    def calls(self) -> list[list[str]]:
        """What was asked for, word by word."""
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def call(self, *words: str) -> list[str]:
        """The one call that has all of these words."""
        (found,) = [call for call in self.calls if set(words) <= set(call)]
        return found

    def wait_for_a_call(self) -> None:
        """Return once something was asked for; the test's own deadline bounds it."""
        while not self.calls:
            time.sleep(0.01)

    def _write_rules(self) -> None:
        (self.folder / "rules").write_text(json.dumps(self.rules))


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    folder = tmp_path / "fakes"
    folder.mkdir()
    fakes = Fakes(folder)
    monkeypatch.setenv("PATH", fakes.path)
    return fakes
