"""A policy file that vanishes or breaks never makes a running broker laxer."""

import pytest

from mcbn_broker.app.policy_file import PolicyFile
from mcbn_broker.appraisal.policy import PolicyError

ZONES = 'zones = ["europe-west3-a"]\n'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "policy.toml"


def zones(policy: PolicyFile):
    return policy.current().zones


def shown(capsys) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_a_start_without_a_file_is_said_aloud(path, capsys):
    assert zones(PolicyFile(path)) is None
    assert "NO POLICY FILE" in shown(capsys)


def test_a_file_that_vanished_or_broke_leaves_the_old_policy_in_force(path, capsys):
    path.write_text(ZONES)
    policy = PolicyFile(path)
    assert "NO POLICY FILE" not in shown(capsys)
    path.unlink()
    policy.reload()
    assert zones(policy) == {"europe-west3-a"}
    assert "policy_not_reloaded" in shown(capsys)
    path.write_text("zones = 1\n")
    policy.reload()
    assert zones(policy) == {"europe-west3-a"}
    path.write_text(ZONES.replace("3-a", "3-b"))
    policy.reload()
    assert zones(policy) == {"europe-west3-b"}


def test_a_link_to_nowhere_is_a_file_that_cannot_be_used(path, tmp_path):
    path.symlink_to(tmp_path / "gone")
    with pytest.raises(PolicyError, match="No such file"):
        PolicyFile(path)


def test_a_file_that_appears_is_taken_up_and_then_has_to_stay(path, capsys):
    policy = PolicyFile(path)
    policy.reload()
    assert zones(policy) is None
    path.write_text(ZONES)
    policy.reload()
    path.unlink()
    policy.reload()
    assert zones(policy) == {"europe-west3-a"}
