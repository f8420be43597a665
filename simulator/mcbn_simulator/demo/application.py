"""The server's applications: an HTTP server and one for datagrams, which know nothing of channels."""

import re
import sys
from pathlib import Path
from typing import Final

from mcbn_simulator.demo.processes import Supervisor

PAGE: Final = "The three of us agree that you may read this.\n"
_PORT: Final = re.compile(r"Serving HTTP on 127\.0\.0\.1 port (\d+)")


async def start_application(supervisor: Supervisor, site: Path) -> str:
    """Serve the page on loopback; returns `127.0.0.1:PORT`."""
    (site / "index.html").write_text(PAGE, encoding="utf-8")
    process = await supervisor.start(
        "application",
        sys.executable,
        *("-I", "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--protocol", "HTTP/1.1", "--directory", site),
    )
    said = await process.event("its port", lambda event: _PORT.match(event.text) is not None)
    found = _PORT.match(said.text)
    return f"127.0.0.1:{found[1] if found else 0}"


async def start_datagram_application(supervisor: Supervisor) -> str:
    """Answer datagrams on loopback; returns `127.0.0.1:PORT`."""
    process = await supervisor.start(
        "datagram-application", sys.executable, *("-I", "-u", "-m", "mcbn_simulator.demo.datagram_application")
    )
    said = await process.event("its port", lambda event: event.name == "ready")
    return f"127.0.0.1:{said.members['port']}"
