"""Fixtures of the tests that run the real executables."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcbn_simulator.demo.workspace import workspace
from tests.end_to_end.network import Desk, Network, agreed_network


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Three participants who have agreed; their desks are never changed, only copied."""
    with workspace(keep=False) as space, agreed_network(space) as agreed:
        yield agreed


@pytest.fixture
def desk(network: Network, tmp_path: Path) -> Desk:
    """A copy of one participant's desk, for one test."""
    return network.desk.copy(tmp_path / "desk")


@pytest.fixture(scope="session")
def strace(require_tool: Callable[..., str]) -> str:
    return require_tool("strace")
