"""The pytest plugin: fixtures for tests of an application that talks through MCBN.

pytest loads this module in every run of an environment that has it, so it imports nothing but pytest until a fixture is
asked for. A project's own fixtures of the same names come first.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mcbn_simulator.testing.attestation import Launcher, TokenIssuer
    from mcbn_simulator.testing.backstage import Backstage
    from mcbn_simulator.testing.network import Broker, Network

_LEASE = "mcbn_lease_seconds"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting of the leases' length."""
    text = "How long a lease of the fixture `network` lasts: the longest that a channel lives on after a pause."
    parser.addini(_LEASE, text, default="10")


@pytest.fixture(scope="session")
def mcbn_backstage() -> "Iterator[Backstage]":
    """Give an event loop on a thread of its own."""
    from mcbn_simulator.testing.backstage import backstage  # noqa: PLC0415  # see above

    with backstage() as stage:
        yield stage


@pytest.fixture
def token_issuer(mcbn_backstage: "Backstage") -> "Iterator[TokenIssuer]":
    """Give a simulated attestation service: tokens with any claims, key rotation, broken documents."""
    from mcbn_simulator.testing.attestation import token_issuer as served  # noqa: PLC0415  # see above

    with served(mcbn_backstage) as issuer:
        yield issuer


@pytest.fixture
def launcher(mcbn_backstage: "Backstage", token_issuer: "TokenIssuer") -> "Iterator[Launcher]":
    """Give a VM's launcher, with tokens of `token_issuer`."""
    from mcbn_simulator.testing.attestation import launcher as served  # noqa: PLC0415  # see above

    with served(mcbn_backstage, token_issuer) as one:
        yield one


@pytest.fixture(scope="session")
def mcbn_network(mcbn_backstage: "Backstage", pytestconfig: pytest.Config) -> "Iterator[Network]":
    """Give the network that all tests share: a ceremony takes several seconds."""
    from mcbn_simulator.testing.network import network as agreed  # noqa: PLC0415  # see above

    with agreed(mcbn_backstage, lease_seconds=int(pytestconfig.getini(_LEASE))) as one:
        yield one


@pytest.fixture
def network(mcbn_network: "Network") -> "Iterator[Network]":
    """Give three participants with real brokers, all of whom allow releases, before the test and after it."""
    yield mcbn_network
    mcbn_network.allow_all()


@pytest.fixture
def broker(network: "Network") -> "Broker":
    """Give the first participant's broker, one of three that have agreed by the real commands."""
    return next(iter(network.brokers.values()))
