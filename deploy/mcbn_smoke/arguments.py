"""The command line's grammar."""

import argparse
import re
from pathlib import Path
from typing import Final

from mcbn_smoke.errors import EXIT_CODES
from mcbn_smoke.gcloud.cloud import HARDWARE

LEASE_SECONDS: Final = 60
_PROJECT: Final = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
_ZONE: Final = re.compile(r"[a-z]+-[a-z]+[0-9]+-[a-z]")
_DESCRIPTION: Final = """\
Starts two Confidential Space VMs in a project of yours, lets them gather from three brokers on this machine, reads a
page through their channel, pauses consent and allows it again, has a debug image and a changed image refused, and
deletes everything. You pay for what it makes, for as long as it takes: three VMs for some 25 minutes. It needs gcloud
(logged in), ssh, and in the project the roles that docs/how-to/google-cloud.md names.
"""


def new_parser() -> argparse.ArgumentParser:
    """Return the parser of `deploy/smoke`."""
    parser = argparse.ArgumentParser(
        prog="deploy/smoke",
        description=_DESCRIPTION,
        epilog="\n".join(["exit codes:", *(f"  {code.value}  {text}" for code, text in EXIT_CODES.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("project", metavar="PROJECT", type=_project, help="the project's id; best one of its own")
    parser.add_argument("--zone", type=_zone, default="europe-west4-b", help="default: %(default)s")
    parser.add_argument("--hardware", choices=sorted(HARDWARE), default="TDX", help="default: %(default)s")
    parser.add_argument(
        "--debug",
        action="store_true",
        help="the debug image of Confidential Space: its logs can be read, and the manifest has to say insecure_debug",
    )
    parser.add_argument("--lease", type=int, default=LEASE_SECONDS, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="DIR", default=Path("build/smoke"), help="default: %(default)s")
    parser.add_argument("--debs", metavar="apt|DIR|URL", help="where Debian packages come from, as for mcbn-images")
    parser.add_argument("--wheels", metavar="DIR", help="where wheels are, as for mcbn-images")
    return parser


def _project(text: str) -> str:
    if not _PROJECT.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no project id: gcloud projects list shows yours")
    return text


def _zone(text: str) -> str:
    if not _ZONE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no zone, such as europe-west4-b")
    return text
