import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mcbn_simulator.errors import MachineError
from mcbn_simulator.machine import SimulatedMachine

DIGEST = "sha256:" + "ab" * 32


def test_a_machine_survives_its_file(altered: Callable[..., SimulatedMachine], tmp_path: Path) -> None:
    machine = altered(env_override={"A": "b"}, overrides={"x": [1, None]}, removed=("y",), fault="expired", debug=True)
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(machine.to_json()))
    assert SimulatedMachine.load(path) == machine


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([], "JSON object"),
        ({}, "needs image_digest"),
        ({"image_digest": DIGEST, "colour": "red"}, "Unknown members .'colour'"),
        ({"image_digest": 5}, "image_digest .* must be a string"),
        ({"image_digest": DIGEST, "debug": "yes"}, "true or false"),
        ({"image_digest": DIGEST, "clock_offset": True}, "an integer"),
        ({"image_digest": DIGEST, "cmd": "server"}, "a list of strings"),
        ({"image_digest": DIGEST, "env": {"A": 1}}, "an object of strings"),
        ({"image_digest": DIGEST, "overrides": []}, "an object"),
        ({"image_digest": DIGEST, "hwmodel": "GCP_SHIELDED_VM"}, "hwmodel is 'GCP_SHIELDED_VM'"),
        ({"image_digest": DIGEST, "restart_policy": "never"}, "restart_policy"),
        ({"image_digest": DIGEST, "fault": "gremlins"}, "wrong-signature"),
    ],
)
def test_malformed_descriptions_are_refused(members: object, complaint: str) -> None:
    with pytest.raises(MachineError, match=complaint):
        SimulatedMachine.from_json(members)


@pytest.mark.parametrize("content", ["", "{", "\udcff"])
def test_unreadable_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "machine.json"
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(MachineError, match=r"machine\.json"):
        SimulatedMachine.load(path)
    with pytest.raises(MachineError, match="missing"):
        SimulatedMachine.load(tmp_path / "missing")
