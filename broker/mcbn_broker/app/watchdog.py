"""Tells systemd's watchdog that the broker works (sd_watchdog_enabled(3)): else systemd ends and restarts it."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from mcbn_broker.app.notify import notify, watchdog_seconds
from mcbn_broker.errors import BrokerError
from mcbn_broker.release.stores import Ledger, Transaction


async def feed_watchdog(ledger: Ledger, environment: Mapping[str, str]) -> None:
    """Send `WATCHDOG=1` at half of the time that systemd waits, each time after the ledger has answered.

    So a broker whose event loop or commit hangs falls silent. A database that refuses is an answer: no restart repairs
    it, and `/readyz` says so.
    """
    seconds = watchdog_seconds(environment)
    while seconds is not None:
        with suppress(BrokerError):
            await ledger.run(_nothing)
        notify("WATCHDOG=1", environment)
        await asyncio.sleep(seconds)


def _nothing(_transaction: Transaction) -> None:
    """Record nothing."""
