"""The attestation service as a process of its own."""

import json
from pathlib import Path
from typing import Final

from mcbn_simulator.demo.processes import Supervisor

_MARK: Final = "PROTECTS NOTHING: "  # stands before the JSON with which issuer and launcher say that they listen


async def start_issuer(supervisor: Supervisor, control: Path) -> str:
    """Start it, and return its URL.

    Args:
        supervisor: Runs it.
        control: Where its private socket shall be.

    Raises:
        DemoError: It does not start.
    """
    process = await supervisor.start("issuer", "mcbn-simulator", "issuer", "--control", control)
    said = await process.event("its address", lambda event: _MARK in event.text)
    return str(json.loads(said.text.partition(_MARK)[2])["url"])
