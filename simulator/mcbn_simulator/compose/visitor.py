"""Somebody at the client who reads the server's page again and again, and says when it can and when it cannot.

Usage: python -m mcbn_simulator.compose.visitor HOST:PORT
"""

import asyncio
import json
import sys

from mcbn_simulator.demo.processes import DemoError
from mcbn_simulator.demo.visitors import PageVisitor

_SECONDS = 1.0


async def visit(host: str, port: int) -> None:
    """Read the page once a second over one connection; make a new one whenever it has ended. Until cancelled."""
    said = ""
    while True:
        try:
            visitor = await PageVisitor.come((host, port))
            try:
                while True:
                    said = _say(said, "page", await visitor.ask())
                    await asyncio.sleep(_SECONDS)
            finally:
                visitor.leave()
        except DemoError as error:
            said = _say(said, "no_page", error.what)
            await asyncio.sleep(_SECONDS)


def _say(before: str, event: str, text: str) -> str:
    """Print an event, unless it is the same as the one before; return it."""
    if event != before:
        print(json.dumps({"event": event, "text": text.strip()}), flush=True)  # noqa: T201  this is its output
    return event


if __name__ == "__main__":
    _host, _, _port = sys.argv[1].rpartition(":")
    asyncio.run(visit(_host, int(_port)))
