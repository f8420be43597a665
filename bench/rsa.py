"""Deriving an RSA key from a seed, beside `openssl genrsa`, which draws its own."""

import hashlib
import json
import resource
import shutil
import subprocess
import sys
import time
from typing import Final

from bench.harness import Goal, Options, Report, Sample, doubt, measure
from bench.processes import ROOT, clean_environment

from mcbn_protocol.key_schedule import Psk
from mcbn_protocol.rsa_schemes import RsaScheme
from mcbn_workload.rsa_keys import derive_rsa_key

BITS: Final = 2048
GENRSA: Final = "openssl genrsa"
WITH: Final = "c2sp-det-keygen, gmpy2"
WITHOUT: Final = "c2sp-det-keygen, Python's own integers"
OTHERS: Final = {f"{scheme.value}, gmpy2": scheme for scheme in RsaScheme if scheme is not RsaScheme.C2SP_DET_KEYGEN}
_OPERATIONS: Final = 60
_MILLISECONDS: Final = 1000
_GOALS: Final = {WITH: 0.6, WITHOUT: 3.0}


async def run(options: Options) -> Report:
    """Measure all of them; each derivation has another seed, the same ones in each round."""
    operations = options.operations(_OPERATIONS)

    async def genrsa() -> Sample:
        before = _children()
        for _ in range(operations):
            command = [shutil.which("openssl") or "openssl", "genrsa", str(BITS)]
            subprocess.run(command, check=True, capture_output=True)  # noqa: ASYNC221  # nothing else runs
        return Sample((_children() - before) / operations * _MILLISECONDS)

    async def without() -> Sample:
        program = [sys.executable, "-c", _WITHOUT_GMPY2, str(max(1, operations // 6))]
        done = subprocess.run(  # noqa: ASYNC221  # nothing else runs
            program, check=True, capture_output=True, cwd=ROOT, env=clean_environment()
        )
        return Sample(float(json.loads(done.stdout)) * _MILLISECONDS)

    def derivation(scheme: RsaScheme, count: int) -> Sample:
        return Sample(derivations(scheme, count) * _MILLISECONDS)

    async def ours() -> Sample:
        return derivation(RsaScheme.C2SP_DET_KEYGEN, operations)

    series = await measure(options.rounds, "ms CPU", {GENRSA: genrsa, WITH: ours, WITHOUT: without})
    yardstick = series[GENRSA]
    goals = [
        Goal(f"{name} / {GENRSA}", series[name].ratio(yardstick), limit, doubt=doubt(yardstick, options.rounds))
        for name, limit in _GOALS.items()
    ]
    notes = [
        f"{name}: {derivations(scheme, max(1, operations // 10)) * _MILLISECONDS:.0f} ms CPU"
        for name, scheme in OTHERS.items()
    ]
    title = f"RSA keys of {BITS} bits, {operations} in a round ({operations // 6} without gmpy2)"
    return Report(title, yardstick, list(series.values()), goals, notes=notes)


def derivations(scheme: RsaScheme, count: int) -> float:
    """Return the CPU seconds of one derivation, the mean over this many seeds."""
    started = time.thread_time()
    for number in range(count):
        derive_rsa_key(scheme, Psk(hashlib.sha256(b"bench %d" % number).digest()), BITS)
    return (time.thread_time() - started) / count


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


_WITHOUT_GMPY2: Final = """
import sys
sys.modules["gmpy2"] = None
from bench.rsa import derivations
from mcbn_protocol.rsa_schemes import RsaScheme
print(derivations(RsaScheme.C2SP_DET_KEYGEN, int(sys.argv[1])))
"""
