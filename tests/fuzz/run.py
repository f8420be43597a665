"""`make fuzz`: runs the fuzzer of this folder as a package, from wherever it is called."""

import runpy
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])
runpy.run_module("tests.fuzz.command", run_name="__main__")
