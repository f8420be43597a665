"""docs/reference/interop.md is the page that a run wrote, with every peer that it must have met."""

from pathlib import Path

from tests.interop.interop_table import page, rows, unmet

PAGE = Path(__file__).parents[2] / "docs/reference/interop.md"


def test_every_peer_that_must_be_met_was():
    assert unmet(rows(PAGE.read_text())) == []


def test_the_page_is_as_a_run_writes_it():
    text = PAGE.read_text()
    assert page(rows(text)) == text
    assert len(rows(text)) == text.count("\n| ") - 1
