"""One target's process: libFuzzer owns it, so each target has one of its own; its log is read when it has ended."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
TARGETS: Final = Path(__file__).parent / "targets"
_MEMORY: Final = Path("/dev/shm")
_GRACE_SECONDS: Final = 300  # for imports, keys and the kept inputs, beyond the fuzzing itself
_SEED: Final = 1

_STATUS: Final = re.compile(r"^#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)
_DONE: Final = re.compile(r"^Done (\d+) runs in (\d+) second", re.MULTILINE)
_REASON: Final = re.compile(
    r"=== Uncaught Python exception: ===\n(?:.*\n)*?(?===)|^.*(?:ERROR: libFuzzer|Error:).*$", re.MULTILINE
)
_REASON_CHARS: Final = 4000


def target_names(folder: Path) -> list[str]:
    """Every file of the folder is a target."""
    return sorted(path.stem for path in folder.glob("*.py"))


@dataclass(frozen=True)
class Limits:
    """How long a target may run: for some seconds, or for some executions from a fixed seed; and what is a crash."""

    timeout_seconds: int
    memory_mib: int
    seconds: int = 0
    runs: int | None = None

    def flags(self) -> list[str]:
        """libFuzzer's flags. It measures memory itself: an address-space limit would stop OpenSSL's own mappings."""
        repeatable = [f"-runs={self.runs}", f"-seed={_SEED}", "-reload=0"]  # what it reloads depends on the time
        end = [f"-max_total_time={self.seconds}"] if self.runs is None else repeatable
        return [*end, f"-timeout={self.timeout_seconds}", f"-rss_limit_mb={self.memory_mib}", "-print_final_stats=1"]


@dataclass(frozen=True)
class Outcome:
    """What came of fuzzing one target. `status` is its process's; anything but 0 is a fault of target or parser."""

    name: str
    status: int
    executions: int
    seconds: float
    edges: int
    features: int
    corpus: int
    crashes: tuple[Path, ...]
    log: Path
    reason: str

    @property
    def broken(self) -> bool:
        return self.status != 0 or bool(self.crashes)

    @property
    def per_second(self) -> float:
        return self.executions / self.seconds if self.seconds else 0.0

    def line(self) -> str:
        verdict = f"{len(self.crashes)} crashes, status {self.status}" if self.broken else "no crash"
        return f"{self.name}: {self.executions} executions in {self.seconds:.0f} s, {self.edges} edges, {verdict}"


class Session:
    """One target with its folders: `seeds` are made anew each time, `corpus` is kept, `crashes` is what to look at."""

    def __init__(self, name: str, targets: Path, folder: Path) -> None:
        self._name = name
        self._targets = targets.resolve()
        self._folder = (folder / name).resolve()
        self._log = self._folder / "log"

    def fuzz(self, limits: Limits) -> Outcome:
        """Fuzz; with a number of executions instead of a time, from the seeds alone, so that it can be repeated."""
        folders = [self._folder / kind for kind in ("corpus", "seeds", "crashes")]
        shutil.rmtree(self._folder / "seeds", ignore_errors=True)
        for one in folders:
            one.mkdir(parents=True, exist_ok=True)
        before = set(folders[2].iterdir())
        corpora = [str(folders[0])] if limits.runs is None else []
        flags = [*limits.flags(), f"-artifact_prefix={folders[2]}{os.sep}", *corpora]
        started = time.monotonic()
        status = self._run(["--seeds", str(folders[1]), *flags], limits.seconds + _GRACE_SECONDS, self._log)
        text = self._log.read_text("utf-8", "replace")
        return self._outcome(status, text, time.monotonic() - started, set(folders[2].iterdir()) - before)

    def replay(self, file: Path, limits: Limits) -> int:
        """Run the target on one input, with all that it says."""
        return self._run([*limits.flags(), str(file.resolve())], _GRACE_SECONDS, None)

    def _run(self, given: list[str], seconds: float, log: Path | None) -> int:
        command = [sys.executable, "-m", "tests.fuzz.worker", str(self._targets / f"{self._name}.py"), *given]
        scratch = tempfile.mkdtemp(prefix="mcbn-fuzz-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None)
        try:
            with nullcontext() if log is None else log.open("wb") as output:
                return subprocess.run(
                    command,
                    cwd=ROOT,
                    env=os.environ | {"TMPDIR": scratch, "PYTHONHASHSEED": "0"},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=None if output is None else subprocess.STDOUT,
                    timeout=seconds,
                    check=False,
                ).returncode
        except subprocess.TimeoutExpired:
            return -1
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _outcome(self, status: int, text: str, wall: float, fresh: set[Path]) -> Outcome:
        states = _STATUS.findall(text)
        executions, edges, features, corpus = map(int, states[-1]) if states else (0, 0, 0, 0)
        done = _DONE.search(text)
        crashes = tuple(sorted(path for path in fresh if not path.name.startswith("slow-unit")))
        reasons = [match[0] for match in _REASON.finditer(text)]
        return Outcome(
            name=self._name,
            status=status,
            executions=int(done[1]) if done else executions,
            seconds=float(done[2]) if done else wall,
            edges=edges,
            features=features,
            corpus=corpus,
            crashes=crashes,
            log=self._log,
            reason=(reasons[0] if reasons else text[-_REASON_CHARS:])[:_REASON_CHARS],
        )
