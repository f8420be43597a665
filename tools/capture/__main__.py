"""Records each kind of channel under demo keys, with its key log, and writes what tshark reads into docs.

Usage: python -m capture, with tools on the path. The files are left in build/capture.
"""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Final

from capture.decode import NoTsharkError, options
from capture.page import insert, render
from capture.sessions import PLANS, Session, record

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / "build" / "capture"
PAGE: Final = ROOT / "docs" / "how-to" / "decode.md"


async def _record_all() -> list[Session]:
    return [await record(plan, FOLDER) for plan in PLANS]


def main() -> int:
    """Do it; return the exit status."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    sessions = asyncio.run(_record_all())
    for one in sessions:
        given = options(one.capture, datagrams=one.plan.datagrams, key_log=one.key_log)
        print("tshark", *(word.replace(f"{ROOT}/", "") for word in given))
    try:
        made = render(sessions)
    except NoTsharkError as error:
        print(f"{PAGE.relative_to(ROOT)} is left as it was: {error}", file=sys.stderr)
        return 1
    PAGE.write_text(insert(PAGE.read_text(encoding="utf-8"), made), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
