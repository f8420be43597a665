"""`mcbn-broker audit verify` on databases that somebody changed behind the broker's back."""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mcbn_broker.audit.chain import chain_hash
from mcbn_broker.errors import EXIT_CODES
from mcbn_protocol.encoding import canonical
from tests.end_to_end.network import Broker, Desk, Network, ask

pytestmark = pytest.mark.timeout(300)

RELEASES = 3
BAD = EXIT_CODES["verification"].number


@dataclass(frozen=True)
class History:
    """A broker that released three times and was stopped, and what others kept of it.

    Attributes:
        desk: Only to be copied.
        releases: The signed releases, in order, with their sequence numbers.
        first_anchor: The anchor as it was after the first release.
        head: What `audit head --out` wrote at the end.
    """

    desk: Desk
    releases: dict[int, Path]
    first_anchor: bytes
    head: Path


@pytest.fixture(scope="module")
def history(network: Network, tmp_path_factory: pytest.TempPathFactory) -> History:
    folder = tmp_path_factory.mktemp("history")
    desk, kept, anchors = network.desk.copy(folder / "desk"), {}, []
    with Broker(desk).ready() as broker, broker.connect() as client:
        for number in range(RELEASES):
            answer = ask(client, network.fresh_request(client))
            file = folder / f"release-{number}.json"
            file.write_bytes(answer.content)
            kept[network.released(answer).audit_sequence] = file
            anchors.append((desk.state / "anchor").read_bytes())
        assert broker.stop() == 0
    head = folder / "head.json"
    written = desk.command("audit", "head", "--out", head)
    assert written.returncode == 0, written.stderr
    assert list(kept) == [one["sequence"] for one in desk.audit_rows() if one["record"]["kind"] == "release"]
    return History(desk, kept, anchors[0], head)


@pytest.fixture
def desk(history: History, tmp_path: Path) -> Desk:
    return history.desk.copy(tmp_path / "desk")


def change(desk: Desk, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(desk.database)) as database, database:
        assert database.execute(statement, parameters).rowcount > 0


def edited(desk: Desk, sequence: int, **members: Any) -> bytes:
    """The record with other members, in the form in which records are stored."""
    record = next(one["record"] for one in desk.audit_rows() if one["sequence"] == sequence)
    return canonical(record | members)


def write_chain(desk: Desk, records: Iterable[bytes], *, first: int, previous: bytes) -> None:
    """Replace records from `first` on by these, with hashes that fit: what an owner of the database could do."""
    for sequence, record in enumerate(records, start=first):
        content = canonical(json.loads(record) | {"previous": previous.hex()})
        previous = chain_hash(previous, content)
        change(desk, "UPDATE audit SET record = ?, hash = ? WHERE sequence = ?", content, previous, sequence)


def assert_bad(desk: Desk, sequence: int, reason: str, *arguments: str | Path) -> None:
    verified = desk.command("audit", "verify", *arguments)
    assert verified.returncode == BAD, verified.stdout + verified.stderr
    assert f"audit record {sequence}: " in verified.stderr
    assert reason in verified.stderr


def assert_good(desk: Desk, *arguments: str | Path) -> None:
    verified = desk.command("audit", "verify", *arguments)
    assert verified.returncode == 0, verified.stderr


def test_an_untouched_audit_verifies_with_every_head(history: History, desk: Desk) -> None:
    assert_good(desk)
    for head in (*history.releases.values(), history.head):
        assert_good(desk, "--head", head)


@pytest.mark.parametrize("place", ["first", "manifest", "release", "last"])
def test_an_edited_record_is_named(history: History, desk: Desk, place: str) -> None:
    kinds = [one["record"]["kind"] for one in desk.audit_rows()]
    sequence = {
        "first": 1,
        "manifest": kinds.index("manifest_accepted") + 1,
        "release": min(history.releases),
        "last": len(kinds),
    }[place]
    change(desk, "UPDATE audit SET record = ? WHERE sequence = ?", edited(desk, sequence, time=1), sequence)
    assert_bad(desk, sequence, "was edited")


def test_an_edited_record_with_a_fitting_hash_is_named_by_the_next(history: History, desk: Desk) -> None:
    first, second, _third = history.releases
    record = edited(desk, first, image_digest="sha256:" + "0" * 64)
    previous = bytes.fromhex(desk.audit_rows()[first - 2]["hash"])
    change(
        desk, "UPDATE audit SET record = ?, hash = ? WHERE sequence = ?", record, chain_hash(previous, record), first
    )
    assert_bad(desk, second, "does not follow")


def test_a_deleted_record_is_named(history: History, desk: Desk) -> None:
    _first, second, _third = history.releases
    change(desk, "DELETE FROM audit WHERE sequence = ?", second)
    assert_bad(desk, second, "missing")


def test_exchanged_records_are_named(history: History, desk: Desk) -> None:
    first, second, _third = history.releases
    for one, other in ((first, -1), (second, first), (-1, second)):
        change(desk, "UPDATE audit SET sequence = ? WHERE sequence = ?", other, one)
    assert_bad(desk, first, "reordered")


def test_a_cut_off_end_is_found_with_the_head_of_an_earlier_release(history: History, desk: Desk) -> None:
    *_others, last = history.releases
    change(desk, "DELETE FROM audit WHERE sequence = ?", last)
    assert_bad(desk, last, "differs from the one that was signed", "--head", history.releases[last])
    shown = desk.command("consent", "show", "--output", "json")
    assert json.loads(shown.stdout)["state"] == "paused", "the anchor noticed: a new incarnation, which starts paused"


@pytest.mark.parametrize("kind", ["release", "audit head"])
def test_a_cut_off_end_is_found_even_if_the_anchor_was_set_back(history: History, desk: Desk, kind: str) -> None:
    first, *_others, last = history.releases
    change(desk, "DELETE FROM audit WHERE sequence > ?", first)
    (desk.state / "anchor").write_bytes(history.first_anchor)
    assert_good(desk)  # which is why heads are to be kept elsewhere
    assert_good(desk, "--head", history.releases[first])
    head = history.releases[last] if kind == "release" else history.head
    assert_bad(desk, first + 1, "cut off", "--head", head)


def test_a_chain_written_anew_is_found_with_the_head_of_an_earlier_release(history: History, desk: Desk) -> None:
    first, *others = history.releases
    rows = desk.audit_rows()
    records = [edited(desk, first, project_id="elsewhere"), *(canonical(rows[other - 1]["record"]) for other in others)]
    write_chain(desk, records, first=first, previous=bytes.fromhex(rows[first - 2]["hash"]))
    assert_bad(desk, first, "the chain was rewritten", "--head", history.releases[first])
