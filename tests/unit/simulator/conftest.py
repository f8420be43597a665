import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from mcbn_simulator.issuer import Issuer
from mcbn_simulator.machine import SimulatedMachine

NOW = 1_800_000_000.5


@pytest.fixture
def machine() -> SimulatedMachine:
    return SimulatedMachine(image_digest="sha256:" + "ab" * 32, cmd=("server",), env={"LANG": "C.UTF-8"})


@pytest.fixture
def issuer() -> Issuer:
    return Issuer("http://issuer.test", clock=lambda: NOW)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose name leaves room for a socket: a unix socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="mcbn-") as name:
        yield Path(name)


@pytest.fixture
def verified() -> Callable[[str, dict[str, Any]], dict[str, Any]]:
    """The claims of a token whose signature verifies under a key set; times are not judged."""

    def verify(token: str, jwks: dict[str, Any]) -> dict[str, Any]:
        key = jwt.PyJWKSet.from_dict(jwks)[jwt.get_unverified_header(token)["kid"]]
        options: Any = {"verify_aud": False, "verify_exp": False, "verify_iat": False, "verify_nbf": False}
        return jwt.decode(token, key, algorithms=["RS256"], options=options)

    return verify


@pytest.fixture
def write_machine(short_folder: Path) -> Callable[[SimulatedMachine], Path]:
    def write(machine: SimulatedMachine) -> Path:
        path = short_folder / f"{machine.instance_name}.json"
        path.write_text(json.dumps(machine.to_json()))
        return path

    return write


@pytest.fixture
def altered(machine: SimulatedMachine) -> Callable[..., SimulatedMachine]:
    return lambda **changes: dataclasses.replace(machine, **changes)
