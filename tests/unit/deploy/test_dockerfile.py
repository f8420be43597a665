"""The Dockerfile for development: what it copies is there, and it says that its digest is not the attested one."""

import re
from pathlib import Path
from string import Template

import pytest

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
DEFAULTS = dict(re.findall(r"^ARG (\w+)=(\S+)$", TEXT, re.MULTILINE))
SOURCES = re.findall(r"^COPY (\S+) \S+$", TEXT, re.MULTILINE)


def test_every_copy_is_of_one_source():
    assert len(SOURCES) == len(re.findall(r"^COPY\b", TEXT, re.MULTILINE)) > 0


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("source", SOURCES)
def test_what_is_copied_is_there(source, role):
    assert (ROOT / Template(source).substitute(DEFAULTS | {"ROLE": role})).exists()


def test_says_that_its_digest_is_not_the_attested_one():
    assert "digest is NOT the attested one" in TEXT.partition("\nFROM ")[0]
