"""Properties: whatever anybody sends, and in whatever order, what must stay true stays true."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.properties.property_lab import Logged


@pytest.fixture(autouse=True)
def logged() -> Iterator[Logged]:
    """What the broker logs; nothing goes to the terminal."""
    taken, quiet = Logged(), logging.getLogger("mcbn.workload")
    before, level = structlog.get_config(), quiet.level
    structlog.configure(processors=[taken])
    quiet.setLevel(logging.CRITICAL + 1)
    yield taken
    quiet.setLevel(level)
    structlog.configure(**before)
