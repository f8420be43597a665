"""Prints how much resident memory each package adds when a broker's packages are imported one after the other."""

import importlib
import os
import sys

import psutil

_MIB = 1024 * 1024
PACKAGES = (
    "asyncio", "uvicorn", "pydantic", "fastapi", "cryptography.x509", "mcbn_protocol.messages", "typer", "rich.table",
    "pydantic_settings", "structlog", "prometheus_client", "jwt", "httpx", "sqlalchemy", "mcbn_broker.cli.root",
    "mcbn_broker.app.serve",
)  # fmt: skip


def main() -> None:
    """Import them in order, the echo's packages first."""
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    sys.stdout.write(f"{'interpreter':26}       {before / _MIB:6.1f} MiB\n")
    for name in PACKAGES:
        importlib.import_module(name)
        after = process.memory_info().rss
        sys.stdout.write(f"{name:26}{(after - before) / _MIB:+6.1f}{after / _MIB:6.1f} MiB\n")
        before = after


if __name__ == "__main__":
    main()
