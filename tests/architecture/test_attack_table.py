"""docs/reference/attacks.md has exactly one row for each attack test, and each test says who tries what."""

import re
from pathlib import Path

import pytest

from tests.attacks.attack_table import ACTORS, FAMILIES, AttackTableError, page, read_attacks, row

ROW = re.compile(r"\| `test_\w+` \| .* \|")
MODULE = '"""About."""\n\nFAMILY = "Claims"\n\n\n'
GOOD = '"""Frank tries it.\n\n    Known as: a | trick (RFC 8725).\n    """'


@pytest.fixture
def attacks(root):
    return read_attacks(root / "tests" / "attacks")


@pytest.fixture
def written(root):
    return (root / "docs" / "reference" / "attacks.md").read_text(encoding="utf-8")


def rows(text: str) -> list[str]:
    """The page's rows, under the module that they belong to, without the number of cases."""
    found, module = [], ""
    for line in text.splitlines():
        if line.startswith("### ["):
            module = line
        elif ROW.fullmatch(line):
            found.append(module + re.sub(r" \| \d+ \| passed \|$", " | passed |", line))
    return found


def test_the_page_has_one_row_for_each_attack(attacks, written):
    expected = page(attacks, dict.fromkeys((one.name for one in attacks), 1))
    assert rows(written) == rows(expected), "run: make attacks"
    assert len(rows(written)) == len(attacks)
    assert written.partition("\n| family")[0] == expected.partition("\n| family")[0]


def test_every_family_has_attacks(attacks):
    assert {one.family for one in attacks} == set(FAMILIES)
    assert len({one.name for one in attacks}) == len(attacks)


def test_every_actor_acts(attacks):
    assert {name for name in ACTORS for one in attacks if one.sentence.startswith(name)} == set(ACTORS)


def test_the_number_of_cases_adds_up(attacks, written):
    cells = [line.strip("| ").split(" | ") for line in written.splitlines() if ROW.fullmatch(line)]
    assert f"| all | {len(attacks)} | {sum(int(one[-2]) for one in cells)} |" in written


def module(folder: Path, text: str) -> tuple:
    (folder / "test_one.py").write_text(text, encoding="utf-8")
    return read_attacks(folder)


def test_what_a_test_says_goes_into_its_row(tmp_path):
    (attack,) = module(tmp_path, f"{MODULE}async def test_it():\n    {GOOD}\n")
    assert (attack.family, attack.about, attack.known_as) == ("Claims", "About.", "a | trick (RFC 8725).")
    assert row(attack, {"test_one.py::test_it": 3}) == ("`test_it`", "Frank tries it.", attack.known_as, "3", "passed")
    assert "| `test_it` | Frank tries it. | a \\| trick (RFC 8725). | 3 | passed |" in page((attack,), {attack.name: 3})


@pytest.mark.parametrize(
    "docstring",
    [
        "",
        '"""It is tried."""',
        '"""Frank tries it"""',
        '"""Frank tries it. He fails."""',
        GOOD.replace("Known as", "See"),
    ],
)
def test_a_test_that_does_not_say_who_tries_what_is_named(tmp_path, docstring):
    with pytest.raises(AttackTableError, match=r"test_one\.py::test_it"):
        module(tmp_path, f"{MODULE}def test_it():\n    {docstring or 'pass'}\n")


@pytest.mark.parametrize("text", ["", "FAMILY = 'Other'\n", "FAMILIES = 'Claims'\n"])
def test_a_module_without_a_family_is_named(tmp_path, text):
    with pytest.raises(AttackTableError, match=r"test_one\.py: give it FAMILY"):
        module(tmp_path, text)
