"""The data directory of one participant's broker: identity, adopted roster and keys."""

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Final, Self, TypedDict

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mcbn_broker.errors import CeremonyError, KeystoreError, NotReadyError
from mcbn_broker.keystore.anchor import Anchor
from mcbn_broker.keystore.epoch_keys import EpochKeys
from mcbn_broker.keystore.files import check_private, make_private_folder, read_private, write_private
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.kek import KeyEncryptionKey
from mcbn_broker.keystore.sealing import KEY_BYTES, SealedFor, SealedKind, seal, unseal
from mcbn_protocol.identifiers import RosterHash
from mcbn_protocol.roster import Roster
from mcbn_protocol.secret import Secret
from mcbn_protocol.shares import Share

_IDENTITY: Final = "broker.json"
_CONSENT_KEY: Final = "consent-key.public"
_KEY_FILES: Final = {SealedKind.RELEASE_KEY: "release.key", SealedKind.CHALLENGE_KEY: "challenge.key"}


def is_data_dir(folder: Path) -> bool:
    """Whether a broker lives in a folder."""
    return (folder / _IDENTITY).exists()


class ChallengeKey(Secret):
    """The key of the MAC in this broker's challenges: 32 bytes."""

    __slots__ = ()


class _Place(TypedDict):
    roster_hash: RosterHash
    index: int


class Home:
    """An existing data directory. Keys are read when they are first asked for."""

    def __init__(
        self, root: Path, identity: Identity, kek: KeyEncryptionKey | None, random: Callable[[int], bytes]
    ) -> None:
        self.root = root
        self.identity = identity
        self.policy_path = root / "policy.toml"
        self.database_path = root / "broker.sqlite3"
        self.reserve_path = root / "reserve"
        self.anchor = Anchor(root / "anchor")
        self.epoch_keys = EpochKeys(root / "epochs", identity.name, random)
        self._roster_path = root / "roster.json"
        self._consent_key_path = root / _CONSENT_KEY
        self._kek = kek
        self._random = random

    @classmethod
    def create(
        cls, root: Path, identity: Identity, kek: KeyEncryptionKey, random: Callable[[int], bytes] = os.urandom
    ) -> Self:
        """Make a data directory with fresh release and challenge keys; not yet the database.

        Raises:
            NotReadyError: It is there already.
            KeystoreError: The folder is open to others, or cannot be written.
        """
        cls.check_new(root)
        home = cls(root, Identity.parse(identity.to_bytes()), kek, random)
        for kind in _KEY_FILES:
            home._make_key(kind)
        write_private(root / _IDENTITY, identity.to_bytes())
        return home

    @staticmethod
    def check_new(root: Path) -> None:
        """Make the folder if need be, and check that no broker lives in it.

        Raises:
            NotReadyError: One does.
            KeystoreError: The folder is open to others, or cannot be made.
        """
        make_private_folder(root)
        if is_data_dir(root):
            raise NotReadyError(
                f"{root} is already a broker's data directory: init would replace its keys; name another --data-dir, "
                "or see `mcbn-broker status`"
            )

    @classmethod
    def open(cls, root: Path, kek: KeyEncryptionKey | None, random: Callable[[int], bytes] = os.urandom) -> Self:
        """Open a data directory.

        Args:
            root: The folder.
            kek: The key-encryption key; None for commands that need no key, such as a pause.
            random: Gives that many random bytes.

        Raises:
            NotReadyError: There is none.
            KeystoreError: It is open to others.
            MalformedError: broker.json was altered.
        """
        if not is_data_dir(root):
            raise NotReadyError(
                f"{root} is no broker's data directory: name yours with --data-dir or MCBN_DATA_DIR; "
                "if there is none yet, run `mcbn-broker init`"
            )
        check_private(root)
        return cls(root, Identity.parse(read_private(root / _IDENTITY)), kek, random)

    @classmethod
    def unlock(cls, root: Path, load_kek: Callable[[Path, Identity], KeyEncryptionKey]) -> Self:
        """Open a data directory together with its key-encryption key, which `load_kek` gets for its identity.

        Raises:
            NotReadyError: There is none.
            KeystoreError: It is open to others, or there is no key.
            MalformedError: broker.json was altered.
        """
        return cls.open(root, load_kek(root, cls.open(root, None).identity))

    @cached_property
    def release_key(self) -> Ed25519PrivateKey:
        """The broker's signing key.

        Raises:
            KeystoreError: No or another key-encryption key, or the file is gone.
        """
        return Ed25519PrivateKey.from_private_bytes(self._open_key(SealedKind.RELEASE_KEY))

    @cached_property
    def challenge_key(self) -> ChallengeKey:
        """The key of the MAC in challenges.

        Raises:
            KeystoreError: No or another key-encryption key, or the file is gone.
        """
        return ChallengeKey(self._open_key(SealedKind.CHALLENGE_KEY))

    def renew_challenge_key(self) -> None:
        """Make a new challenge key: earlier challenges die.

        Raises:
            KeystoreError: No key-encryption key, or it cannot be written.
        """
        self._make_key(SealedKind.CHALLENGE_KEY)

    def _make_key(self, kind: SealedKind) -> None:
        purpose = SealedFor(kind, None, self.identity.name)
        sealed = seal(self._need_kek(), purpose, Secret(self._random(KEY_BYTES)), self._random)
        write_private(self.root / _KEY_FILES[kind], sealed)

    def adopted_roster(self) -> Roster | None:
        """Return the roster that this participant adopted, or None before that.

        Raises:
            ProtocolError: The file was altered.
        """
        return Roster.parse(read_private(self._roster_path)) if self._roster_path.exists() else None

    def roster(self) -> Roster:
        """Return the adopted roster.

        Raises:
            NotReadyError: None was adopted yet.
        """
        roster = self.adopted_roster()
        if roster is None:
            raise NotReadyError("no roster was adopted yet: run `mcbn-broker share new --roster roster.json` first")
        return roster

    def adopt_roster(self, data: bytes) -> Roster:
        """Adopt a roster for good; adopting the same bytes again changes nothing.

        Raises:
            CeremonyError: Another roster was adopted, or this one does not name us with both of our keys.
            NotReadyError: No card was made yet, so nobody knows which consent key is ours.
            ProtocolError: Not a roster.
        """
        roster = Roster.parse(data)
        if self._roster_path.exists():
            self._check_same(data)
            return roster
        self._check_ours(roster)
        write_private(self._roster_path, data)
        return roster

    def _check_same(self, data: bytes) -> None:
        if read_private(self._roster_path) != data:
            raise CeremonyError(
                "another roster was adopted here: a changed roster is a new network, which needs a data directory of "
                "its own (`mcbn-broker init --data-dir ...`)"
            )

    def _check_ours(self, roster: Roster) -> None:
        if roster.network != self.identity.network:
            raise CeremonyError(f"the roster is of {roster.network}, this broker of {self.identity.network}")
        ours = roster.participant(self.identity.name)
        if ours.release_key != self.release_key.public_key().public_bytes_raw():
            raise CeremonyError(
                f"the roster gives {ours.name} another release key: build it from {ours.name}'s own card"
            )
        if ours.consent_key != self._noted_consent_key():
            raise CeremonyError(
                f"the roster gives {ours.name} another consent key: whoever has that one could sign manifests in the "
                f"name of {ours.name}; build it from {ours.name}'s own card"
            )

    def note_consent_key(self, public_key: bytes) -> None:
        """Note our public consent key (32 bytes): the adopted roster has to have it. `card` does this.

        Raises:
            CeremonyError: The roster that was adopted has another one.
        """
        roster, name = self.adopted_roster(), self.identity.name
        if roster is not None and roster.participant(name).consent_key != public_key:
            raise CeremonyError(
                f"the adopted roster has another consent key of {name}: give that one with --consent-key; with a new "
                "consent key, a new network begins"
            )
        write_private(self._consent_key_path, public_key.hex().encode() + b"\n")

    @property
    def card_made(self) -> bool:
        """Whether `card` was run here."""
        return self._consent_key_path.exists()

    def _noted_consent_key(self) -> bytes:
        if not self.card_made:
            raise NotReadyError("no card was made here yet: run `mcbn-broker card` first; the roster is built from it")
        try:
            return bytes.fromhex(read_private(self._consent_key_path).decode("ascii"))
        except ValueError as error:
            raise KeystoreError(f"{self._consent_key_path} was altered: run `mcbn-broker card` again") from error

    def seal_share(self, share: Share, *, roster: Roster, epoch: int) -> bytes:
        """Make the epoch's key and return our share sealed under it.

        Raises:
            KeystoreError: No key-encryption key, or the epoch key cannot be stored.
        """
        return self.epoch_keys.seal_share(self._need_kek(), share, **self._place(roster), epoch=epoch)

    def unseal_share(self, sealed: bytes, *, roster: Roster, epoch: int) -> Share:
        """Return our share of an epoch.

        Raises:
            KeystoreError: No or another key-encryption key; the epoch key was destroyed; or another epoch's share.
        """
        return self.epoch_keys.unseal_share(self._need_kek(), sealed, **self._place(roster), epoch=epoch)

    def _open_key(self, kind: SealedKind) -> bytes:
        path = self.root / _KEY_FILES[kind]
        sealed = read_private(path)
        kek = self._need_kek()
        try:
            return unseal(kek, SealedFor(kind, None, self.identity.name), sealed)
        except KeystoreError as error:
            raise KeystoreError(f"{path}: {error}") from error

    def _need_kek(self) -> KeyEncryptionKey:
        if self._kek is None:
            raise KeystoreError("this needs the key-encryption key: give --kek-file or --kek (MCBN_KEK_FILE, MCBN_KEK)")
        return self._kek

    def _place(self, roster: Roster) -> _Place:
        return {"roster_hash": roster.hash, "index": roster.share_index(self.identity.name)}
