"""Runs commands of `mcbn-broker` in this process."""

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

import pytest

from mcbn_broker.__main__ import main


@dataclass(frozen=True)
class Result:
    """What one command did."""

    status: int
    out: str
    err: str


@pytest.fixture
def command():
    """Give `command("status", ...)`: run it as the console script does."""

    def run(*words) -> Result:
        out, err = io.StringIO(), io.StringIO()
        argv = ["mcbn-broker", *map(str, words)]
        with patch("sys.argv", argv), redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
        return Result(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    return run
