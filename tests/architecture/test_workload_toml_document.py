"""docs/reference/workload-toml.md names every key and variable that the workload reads, and no other."""

import dataclasses
import re
from pathlib import Path

import pytest

from mcbn_workload.settings import (
    BROKER_PREFIX,
    VARIABLES,
    ApplicationSettings,
    CertificateSettings,
    Deadlines,
    Settings,
)

TEXT = (Path(__file__).parents[2] / "docs/reference/workload-toml.md").read_text()


def test_keys():
    keys = {field.name for field in dataclasses.fields(Settings)} - {
        "operator",
        "deadlines",
        "mutual_tls",
        "application",
    }
    assert set(re.findall(r"^\| `([a-z_]+)` \|", TEXT, re.MULTILINE)) == keys


@pytest.mark.parametrize(
    ("table", "settings"), [("mutual_tls", CertificateSettings), ("application", ApplicationSettings)]
)
def test_keys_of_tables(table, settings):
    keys = {field.name for field in dataclasses.fields(settings)}
    assert set(re.findall(rf"^\| `{table}\.([a-z_]+)` \|", TEXT, re.MULTILINE)) == keys


def test_deadlines_and_their_defaults():
    found = dict(re.findall(r"^([a-z]+_seconds) = ([0-9]+)$", TEXT, re.MULTILINE))
    assert {name: int(value) for name, value in found.items()} == dataclasses.asdict(Deadlines())


def test_variables():
    found = set(re.findall(r"^\| `(MCBN_[A-Z_<>]+)` \|", TEXT, re.MULTILINE))
    assert found == {*VARIABLES, f"{BROKER_PREFIX}<NAME>"}
