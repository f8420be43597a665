import os
import threading

import pytest

from mcbn_broker.errors import KeystoreError
from mcbn_broker.keystore.anchor import Anchor, AnchorState

LIFE, OTHER = b"a" * 16, b"b" * 16
SLOT = 4096


@pytest.fixture
def anchor(tmp_path) -> Anchor:
    anchor = Anchor(tmp_path / "anchor")
    anchor.begin(AnchorState(LIFE, 1, b"1" * 32, 0))
    return anchor


def test_without_a_file_there_is_no_state(tmp_path):
    assert Anchor(tmp_path / "anchor").read() is None


def test_it_only_moves_forward_and_keeps_the_highest_epoch(anchor):
    anchor.advance(LIFE, 5, b"5" * 32, 2)
    anchor.advance(LIFE, 4, b"4" * 32, 9)
    anchor.advance(LIFE, 6, b"6" * 32, 0)
    assert anchor.read() == AnchorState(LIFE, 6, b"6" * 32, 9)


def test_another_incarnation_cannot_move_it(anchor):
    with pytest.raises(KeystoreError, match="replaced"):
        anchor.advance(OTHER, 9, b"9" * 32, 0)
    anchor.advance(LIFE, 3, b"3" * 32, 4)
    anchor.begin(AnchorState(OTHER, 2, b"2" * 32, 0))
    assert anchor.read() == AnchorState(OTHER, 2, b"2" * 32, 4)


def test_its_size_never_changes(anchor, tmp_path):
    size = (tmp_path / "anchor").stat().st_size
    for sequence in range(2, 9):
        anchor.advance(LIFE, sequence, bytes([sequence]) * 32, 0)
    assert (tmp_path / "anchor").stat().st_size == size == 2 * SLOT


@pytest.mark.parametrize("length", [0, 1, 40, 100, 135])
def test_a_torn_write_leaves_the_state_before_it(anchor, tmp_path, length):
    anchor.advance(LIFE, 2, b"2" * 32, 0)
    before = (tmp_path / "anchor").read_bytes()
    anchor.advance(LIFE, 3, b"3" * 32, 0)
    after = (tmp_path / "anchor").read_bytes()
    start = next(place for place in range(len(after)) if after[place] != before[place]) // SLOT * SLOT
    torn = before[:start] + after[start : start + length] + before[start + length :]
    (tmp_path / "anchor").write_bytes(torn)
    assert anchor.read().sequence in {2, 3}
    assert anchor.read().sequence == 2 or torn == after


def test_with_both_slots_unreadable_it_fails_closed(anchor, tmp_path):
    anchor.advance(LIFE, 2, b"2" * 32, 0)
    data = bytearray((tmp_path / "anchor").read_bytes())
    data[20] ^= 1
    data[SLOT + 20] ^= 1
    (tmp_path / "anchor").write_bytes(data)
    for call in (anchor.read, lambda: anchor.advance(LIFE, 3, b"3" * 32, 0)):
        with pytest.raises(KeystoreError, match="move it away"):
            call()


def test_an_empty_or_exposed_file_fails_closed(anchor, tmp_path):
    (tmp_path / "anchor").write_bytes(b"")
    with pytest.raises(KeystoreError, match="unreadable"):
        anchor.read()
    (tmp_path / "anchor").chmod(0o644)
    with pytest.raises(KeystoreError, match="open to others"):
        anchor.read()


def test_a_slot_of_another_format_is_unreadable(anchor, tmp_path):
    import hashlib  # noqa: PLC0415  # only here: the checksum of a slot that this program did not write

    body = b"mcbnanc9" + bytes(80)
    (tmp_path / "anchor").write_bytes((body + hashlib.sha256(body).digest()).ljust(2 * SLOT, b"\0"))
    with pytest.raises(KeystoreError, match="unreadable"):
        anchor.read()


def test_a_failing_disk_is_an_error_of_ours(anchor, monkeypatch):
    def broken(_descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(KeystoreError, match="Input/output"):
        anchor.advance(LIFE, 2, b"2" * 32, 0)


def test_a_file_that_vanished_is_an_error_of_ours(anchor, tmp_path):
    (tmp_path / "anchor").unlink()
    with pytest.raises(KeystoreError, match="No such file"):
        anchor.advance(LIFE, 2, b"2" * 32, 0)


def test_writers_at_once_lose_nothing(anchor):
    def write(start):
        for sequence in range(start, 200, 4):
            anchor.advance(LIFE, sequence, bytes([sequence]) * 32, 0)

    threads = [threading.Thread(target=write, args=(start,)) for start in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert anchor.read() == AnchorState(LIFE, 199, bytes([199]) * 32, 0)
