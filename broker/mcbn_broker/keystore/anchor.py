"""The anchor: how far the audit has come, kept outside of the database so that an older copy of it is noticed."""

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from mcbn_broker.errors import KeystoreError
from mcbn_broker.keystore.files import check_private, create_private

_MAGIC: Final = b"mcbnanc1"
_BODY: Final = struct.Struct(">8sQ16sQ32sQ")  # magic, write counter, incarnation, sequence, head, epoch
_CHECKSUM_BYTES: Final = 32
_SLOT_BYTES: Final = 4096  # each slot in a page of its own, so that one torn write cannot spoil both
_SLOTS: Final = 2


@dataclass(frozen=True)
class AnchorState:
    """What the anchor holds.

    Attributes:
        incarnation: 16 bytes; which life of the database it speaks of.
        sequence: The last audit record's.
        head: That record's chain hash, 32 bytes.
        epoch: The highest epoch ever accepted, 0 before the first.
    """

    incarnation: bytes
    sequence: int
    head: bytes
    epoch: int

    def check_incarnation(self, incarnation: bytes) -> None:
        """Check that this is still the anchor of the database that a process opened.

        Raises:
            KeystoreError: It speaks of another one.
        """
        if self.incarnation != incarnation:
            raise KeystoreError("the database was replaced while this process used it: restart the broker")


@dataclass(frozen=True)
class _Slot:
    counter: int
    state: AnchorState

    def pack(self) -> bytes:
        state = self.state
        body = _BODY.pack(_MAGIC, self.counter, state.incarnation, state.sequence, state.head, state.epoch)
        return body + hashlib.sha256(body).digest()

    @classmethod
    def unpack(cls, data: bytes) -> Self | None:
        body, checksum = data[: _BODY.size], data[_BODY.size :][:_CHECKSUM_BYTES]
        if hashlib.sha256(body).digest() != checksum:
            return None
        magic, counter, incarnation, sequence, head, epoch = _BODY.unpack(body)
        return cls(counter, AnchorState(incarnation, sequence, head, epoch)) if magic == _MAGIC else None


class Anchor:
    """A file of two slots that are written in turn, in place: it needs no space on a full disk.

    It is written after the database's commit, so it may lag behind the database, never run ahead of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> AnchorState | None:
        """Return the newest readable slot, or None if there is no file.

        Raises:
            KeystoreError: There is a file, but neither slot is readable.
        """
        if not self._path.exists():
            return None
        check_private(self._path)
        with self._locked() as descriptor:
            return self._newest(descriptor).state

    def glance(self) -> AnchorState:
        """Return the newest readable slot without waiting for a writer: what it writes just now may be missing.

        Raises:
            KeystoreError: The file is gone, or neither slot is readable.
        """
        with self._opened() as descriptor:
            slot = _newest(os.pread(descriptor, _SLOTS * _SLOT_BYTES, 0))
        if slot is not None:
            return slot.state
        with self._locked() as descriptor:
            return self._newest(descriptor).state

    def advance(self, incarnation: bytes, sequence: int, head: bytes, epoch: int) -> None:
        """Note that the audit has come to `sequence`, and the accepted epochs to `epoch`; neither ever goes back.

        Raises:
            KeystoreError: The anchor belongs to another incarnation, so the database at hand was replaced; or it
                cannot be read or written.
        """
        with self._locked() as descriptor:
            newest = self._newest(descriptor)
            before = newest.state
            before.check_incarnation(incarnation)
            further = replace(before, sequence=sequence, head=head) if sequence > before.sequence else before
            state = replace(further, epoch=max(epoch, before.epoch))
            if state != before:
                self._write(descriptor, _Slot(newest.counter + 1, state))

    def begin(self, state: AnchorState) -> None:
        """Begin anew for a new incarnation of the database; the highest epoch is kept.

        Raises:
            KeystoreError: The file cannot be read or written.
        """
        if not self._path.exists():
            create_private(self._path, _Slot(0, state).pack().ljust(_SLOTS * _SLOT_BYTES, b"\0"))
            return
        with self._locked() as descriptor:
            newest = self._newest(descriptor)
            kept = replace(state, epoch=max(state.epoch, newest.state.epoch))
            self._write(descriptor, _Slot(newest.counter + 1, kept))

    @contextmanager
    def _locked(self) -> Iterator[int]:
        with self._opened() as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor

    @contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = -1
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
            yield descriptor
        except OSError as error:
            raise KeystoreError(f"the anchor {self._path} cannot be used: {error.strerror}") from error
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _newest(self, descriptor: int) -> _Slot:
        slot = _newest(os.pread(descriptor, _SLOTS * _SLOT_BYTES, 0))
        if slot is None:
            raise KeystoreError(
                f"the anchor {self._path} is unreadable, so nobody can tell whether the database is an older copy: "
                "restore the file; or, if it is lost, move it away, which begins a new incarnation that starts paused"
            )
        return slot

    def _write(self, descriptor: int, slot: _Slot) -> None:
        os.pwrite(descriptor, slot.pack(), slot.counter % _SLOTS * _SLOT_BYTES)
        os.fdatasync(descriptor)


def _newest(data: bytes) -> _Slot | None:
    places = (data[place * _SLOT_BYTES :][:_SLOT_BYTES] for place in range(_SLOTS))
    slots = [slot for slot in map(_Slot.unpack, places) if slot is not None]
    return max(slots, key=lambda slot: slot.counter, default=None)
