"""`make bench`: runs the benchmarks of this folder as a package, from wherever it is called."""

import runpy
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])
runpy.run_module("bench.command", run_name="__main__")
