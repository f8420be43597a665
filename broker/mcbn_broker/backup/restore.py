"""Brings a backup back: unpacked and checked beside its place, and never older than what is known without a word."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mcbn_broker.audit.chain import ChainHead
from mcbn_broker.backup.archive import unpack
from mcbn_broker.backup.envelope import OpeningStream
from mcbn_broker.backup.errors import BackupError
from mcbn_broker.backup.facts import Facts, read_facts
from mcbn_broker.backup.file import BackupFile
from mcbn_broker.backup.snapshot import FORMAT
from mcbn_broker.backup.staging import staging
from mcbn_broker.ceremony.passphrase import Passphrase
from mcbn_broker.errors import AuditError, KeystoreError, NotReadyError, UsageError
from mcbn_broker.keystore.anchor import AnchorState
from mcbn_broker.keystore.files import sync_folder
from mcbn_broker.keystore.home import Home, is_data_dir
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.kek import KeyEncryptionKey
from mcbn_broker.keystore.serve_lock import serve_lock
from mcbn_broker.storage.store import Store
from mcbn_protocol.encoding import parse_canonical
from mcbn_protocol.errors import ProtocolError
from mcbn_protocol.fields import Fields
from mcbn_protocol.messages import INCARNATION_BYTES

_OWN_FILES: Final = ("policy.toml", "broker.toml")
_NOTE_BYTES: Final = 1024
_ASIDE: Final = ".replaced-"


@dataclass(frozen=True)
class Known:
    """How far this broker is known to have come, from elsewhere than the backup. No `heads` and epoch 0: nothing known.

    Attributes:
        epoch: The highest epoch that is known to have been accepted or agreed.
        heads: Points of its audit.
        files: What the data directory that would be replaced has in the participant's own files: SHA-256 by name, or
            nothing.
        place: Where that directory is, if there is one.
    """

    epoch: int
    heads: tuple[ChainHead, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    place: Path | None = None


@dataclass(frozen=True)
class Unpacked:
    """A backup whose files, keys and audit were checked, not yet in its place."""

    home: Home
    made_at: int
    facts: Facts

    def why_older(self, known: Known) -> tuple[str, ...]:
        """Return each way in which the backup is behind what is known; none if it is not."""
        why = []
        if self.facts.epoch < known.epoch:
            why.append(f"its highest epoch is {self.facts.epoch}, while epoch {known.epoch} is known")
        reached, ends = max((head.sequence for head in known.heads), default=0), self.facts.head.sequence
        if reached > ends:
            why.append(
                f"its audit ends at record {ends}, while record {reached} is known; "
                "if an epoch was accepted since, give its bundle with --known"
            )
        others = {one.sequence for one in known.heads if 0 < one.sequence <= ends and not self._has(one)}
        why += [f"its audit has another record {sequence} than the one that is known" for sequence in sorted(others)]
        return tuple(why)

    def _has(self, head: ChainHead) -> bool:
        return self.facts.hashes.get(head.sequence) == head.hash

    def why_changed(self, known: Known) -> tuple[str, ...]:
        """Return each of the participant's own files that would be exchanged for another one."""
        ours = own_files(self.home.root)
        return tuple(
            f"its {name} has the SHA-256 {ours[name]}, the one that it replaces {there}"
            for name, there in known.files.items()
            if ours[name] != there
        )


def own_files(root: Path) -> dict[str, str]:
    """Return what a data directory has in the files that its participant edits: SHA-256 by name, or `none`."""
    return {
        name: hashlib.sha256((root / name).read_bytes()).hexdigest() if (root / name).exists() else "none"
        for name in _OWN_FILES
    }


@contextmanager
def unpacked(
    file: BackupFile, root: Path, passphrase: Passphrase, load_kek: Callable[[Path, Identity], KeyEncryptionKey]
) -> Iterator[Unpacked]:
    """Unpack a backup beside its future place, and check it; what is not put in place is gone when the block is left.

    Raises:
        BackupError: Another passphrase; changed or cut off; not what this program makes; or another participant's.
        BrokerError: Its keys do not open, or its audit does not verify.
        UsageError: It cannot be read, or there is no room.
    """
    with ExitStack() as stack:
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            stage = stack.enter_context(staging(f".{root.name}.restoring-", root.parent))
        except OSError as error:
            raise UsageError(
                f"cannot write beside {root}, where a restore is prepared ({error.strerror}): if {root} is a mount "
                "point, name a folder within it as --data-dir"
            ) from error
        _unpack(file, stage, passphrase)
        yield _check(stage, load_kek)


def _unpack(file: BackupFile, stage: Path, passphrase: Passphrase) -> None:
    try:
        with file.naming():
            unpack(OpeningStream(file, passphrase), stage)
    except OSError as error:
        raise UsageError(f"cannot unpack {file.path} in {stage.parent}: {error.strerror}") from error


def _check(stage: Path, load_kek: Callable[[Path, Identity], KeyEncryptionKey]) -> Unpacked:
    home = Home.unlock(stage, load_kek)
    facts, name = read_facts(home), home.identity.name
    if facts.participant != name:
        raise BackupError(
            f"the backup's files are {name}'s, its database is {facts.participant}'s: it was put together"
        )
    roster, ours = home.adopted_roster(), _release_key_of(home)  # it opens: it is name's
    if roster is not None and roster.participant(name).release_key != ours:
        raise BackupError(f"the release key in the backup is not {name}'s in its roster: it was put together")
    return Unpacked(home, _made_at(stage), facts)


def _release_key_of(home: Home) -> bytes:
    try:
        return home.release_key.public_key().public_bytes_raw()
    except KeystoreError as error:
        raise KeystoreError(
            "this key-encryption key is not the one of the backup: give the --kek-file (or --kek) used when it was "
            "made. If it was this one, the release key was damaged before the backup was made: take an older backup"
        ) from error


def _made_at(stage: Path) -> int:
    try:
        data = (stage / "backup.json").read_bytes()[: _NOTE_BYTES + 1]
        with Fields(parse_canonical(data, limit=_NOTE_BYTES), "backup.json") as fields:
            fields.exactly("format", FORMAT)
            return fields.integer("made_at", minimum=0, maximum=2**53)
    except ProtocolError as error:
        raise BackupError(f"this program cannot restore the backup: {error}") from error


def known_here(root: Path, backup: Unpacked) -> Known:
    """Return what the data directory that is in the backup's place knows; nothing where there is none.

    If none is there, the one that was moved aside last counts: a restore that was killed in between left it so.

    Raises:
        BackupError: Another broker lives there.
        KeystoreError: Its anchor is unreadable.
    """
    place = root if is_data_dir(root) else _aside(root)
    if place is None:
        return Known(0, ())
    there, identity = Home.open(place, None), backup.home.identity
    if (there.identity.network, there.identity.name) != (identity.network, identity.name):
        raise BackupError(
            f"{place} is the broker of {there.identity.name} in {there.identity.network}, the backup is "
            f"{identity.name}'s in {identity.network}: name another --data-dir"
        )
    anchored, files = there.anchor.read(), own_files(place)
    if anchored is None:
        return Known(0, (), files, place)
    return Known(anchored.epoch, (ChainHead(anchored.sequence, anchored.head),), files, place)


def _aside(root: Path) -> Path | None:
    """Return the data directory that a restore moved aside last, or None."""
    start = f"{root.name}{_ASIDE}"
    if not root.parent.is_dir():
        return None
    named = [path for path in root.parent.iterdir() if path.name.startswith(start) and is_data_dir(path)]
    moved = {int(path.name[len(start) :]): path for path in named if path.name[len(start) :].isdecimal()}
    return moved[max(moved)] if moved else None


def check_place(root: Path, *, replace: bool) -> None:
    """Check that a backup may be put there, before anybody types a passphrase; `put_in_place` checks it again.

    Raises:
        UsageError: Something is there that is no broker.
        NotReadyError: A broker's data directory is there and `replace` is False, or a broker serves from there.
        KeystoreError: Its lock file cannot be opened.
    """
    _check_free(root, replace=replace)
    with _not_served(root):
        pass


def put_in_place(
    backup: Unpacked, root: Path, known: Known, *, now: int, random: Callable[[int], bytes], replace: bool
) -> Path | None:
    """Begin a new incarnation in the backup, paused, and move it to its place.

    Epochs below the highest that is known are never released again, whatever the backup holds.

    Returns:
        Where the data directory that was there before is now, or None.

    Raises:
        UsageError: Something is in its place, and `replace` is False or it is no broker; or it cannot be moved.
        NotReadyError: A broker serves from there.
        BackupError: The data directory that is there has gone on since `known` was asked for.
        BrokerError: The backup's manifests, shares or audit do not verify.
    """
    _check_free(root, replace=replace)
    with _not_served(root):
        _check_still(known_here(root, backup), known, root)
        _begin(backup, known, now=now, random=random)
        _check_still(known_here(root, backup), known, root)  # a large audit takes long to verify
        return _move(backup.home.root, root, f"{root.name}{_ASIDE}{now}" if is_data_dir(root) else None)


def _not_served(root: Path) -> AbstractContextManager[None]:
    return serve_lock(root) if is_data_dir(root) else nullcontext()


def _check_free(root: Path, *, replace: bool) -> None:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    if not is_data_dir(root):
        raise UsageError(f"{root} is not empty, and no broker's data directory: name another --data-dir")
    if not replace:
        raise NotReadyError(f"{root} is a broker's data directory: give --replace to move it aside, or name another")


def _check_still(here: Known, known: Known, root: Path) -> None:
    """Check that nothing was accepted, recorded or edited there while somebody thought about the words."""
    if here.epoch > known.epoch or not set(here.heads) <= set(known.heads) or here.files != known.files:
        raise BackupError(f"{root} has gone on since it was looked at, and nothing was restored: try again")


def _begin(backup: Unpacked, known: Known, *, now: int, random: Callable[[int], bytes]) -> None:
    home, facts = backup.home, backup.facts
    home.renew_challenge_key()
    # The anchor of no incarnation that ever was: opening the store sees a restored database, and begins a new one.
    epoch = max(facts.epoch, known.epoch)
    home.anchor.begin(AnchorState(random(INCARNATION_BYTES), facts.head.sequence, facts.head.hash, epoch))
    with Store.open(home, clock=lambda: now, random=random) as store:
        if store.opened.new_incarnation is None:
            raise KeystoreError("no new incarnation was begun, so nothing was restored: report this")
        try:
            store.verify_audit()
        except AuditError as error:
            raise BackupError(f"the backup's audit does not verify: {error}") from error
        store.terms()


def _move(stage: Path, root: Path, aside: str | None) -> Path | None:
    replaced = None
    try:
        if aside is not None:
            replaced = root.rename(root.with_name(aside))
        stage.replace(root)
        sync_folder(root.parent)
    except OSError as error:
        if replaced is not None and not root.exists():
            replaced.rename(root)
        raise UsageError(
            f"{root} cannot be put in place ({error.strerror}): a mount point cannot be replaced: name a folder "
            "within it as --data-dir"
        ) from error
    return replaced


def merge(known: Sequence[Known]) -> Known:
    """Return everything that is known, each point of the audit once."""
    heads = tuple(dict.fromkeys(head for one in known for head in one.heads))
    files = {name: digest for one in known for name, digest in one.files.items()}
    return Known(max((one.epoch for one in known), default=0), heads, files)
