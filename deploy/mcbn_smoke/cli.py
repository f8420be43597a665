"""The command `deploy/smoke`: standard output is the report's path, standard error is talk."""

import asyncio
import secrets
import sys
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from mcbn_simulator.demo.interruption import interruptible
from mcbn_simulator.demo.narration import Narrator
from mcbn_smoke.arguments import new_parser
from mcbn_smoke.gcloud.cloud import GoogleCloud, Plan
from mcbn_smoke.gcloud.programs import Programs
from mcbn_smoke.images import Builder
from mcbn_smoke.play import smoke
from mcbn_smoke.stage import Patience

_BOOT_SECONDS: Final = 900.0
_HEAL_SECONDS: Final = 180.0


def main(arguments: Sequence[str]) -> int:
    """Run the smoke test and return its exit code.

    Args:
        arguments: The command line without the program's name.
    """
    options = new_parser().parse_args(arguments)
    return asyncio.run(interruptible(lambda: _smoke(options)))


async def _smoke(options: Namespace) -> int:
    name = f"mcbn-smoke-{secrets.token_hex(3)}"
    narrator = Narrator(Console(stderr=True))
    narrator.warning(
        f"Everything that is made in {options.project} begins with {name}, and costs money while it is there."
    )
    report: Path = options.out / f"{name}.json"
    plan = Plan(project=options.project, zone=options.zone, hardware=options.hardware, debug=options.debug, name=name)
    sources = [
        word for name in ("debs", "wheels") if (value := getattr(options, name)) for word in (f"--{name}", value)
    ]
    patience = Patience(boot=_BOOT_SECONDS, lease=options.lease, heal=_HEAL_SECONDS)
    with tempfile.TemporaryDirectory(prefix="mcbn-smoke-") as folder:
        cloud = GoogleCloud(plan, Path(folder), Programs(narrator))
        status = await smoke(cloud, Builder(sources=sources), patience, report, narrator)
    sys.stdout.write(f"{report}\n")
    return status
