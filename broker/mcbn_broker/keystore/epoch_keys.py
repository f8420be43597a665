"""The key of each epoch, under which that epoch's share is sealed; destroying it ends the share."""

from collections.abc import Callable
from pathlib import Path

from mcbn_broker.keystore.files import destroy, make_private_folder, read_private, write_private
from mcbn_broker.keystore.kek import KeyEncryptionKey
from mcbn_broker.keystore.sealing import KEY_BYTES, SealedFor, SealedKind, seal, unseal
from mcbn_protocol.identifiers import RosterHash
from mcbn_protocol.secret import Secret
from mcbn_protocol.shares import Share


class EpochKey(Secret):
    """The key under which one epoch's share is sealed."""

    __slots__ = ()


class EpochKeys:
    """The folder of epoch keys, each in a file of its own, sealed under the key-encryption key."""

    def __init__(self, folder: Path, participant: str, random: Callable[[int], bytes]) -> None:
        self.folder = folder
        self._participant = participant
        self._random = random

    def has(self, epoch: int) -> bool:
        """Whether the epoch's key was made and not destroyed since."""
        return self._path(epoch).exists()

    def epochs(self) -> tuple[int, ...]:
        """Return the epochs whose keys exist, ascending."""
        names = (path.stem for path in self.folder.glob("[0-9]*.key"))
        return tuple(sorted(int(name) for name in names if name.isdigit()))

    def destroy(self, epoch: int) -> None:
        """Destroy an epoch's key: its share can never be unsealed again. Doing it twice is fine.

        Raises:
            KeystoreError: The file system refused.
        """
        destroy(self._path(epoch))

    def seal_share(
        self, kek: KeyEncryptionKey, share: Share, *, roster_hash: RosterHash, epoch: int, index: int
    ) -> bytes:
        """Make the epoch's key, store it, and return the share sealed under it.

        Raises:
            KeystoreError: The key cannot be stored.
        """
        key = EpochKey(self._random(KEY_BYTES))
        make_private_folder(self.folder)
        write_private(self._path(epoch), seal(kek, self._key_purpose(roster_hash, epoch), key, self._random))
        return seal(key, self._share_purpose(roster_hash, epoch, index), share, self._random)

    def unseal_share(
        self, kek: KeyEncryptionKey, sealed: bytes, *, roster_hash: RosterHash, epoch: int, index: int
    ) -> Share:
        """Return the share that `seal_share` sealed.

        Raises:
            KeystoreError: The key is gone or does not open, or the share is not this epoch's, index's or roster's.
        """
        raw = unseal(kek, self._key_purpose(roster_hash, epoch), read_private(self._path(epoch)))
        return Share(unseal(EpochKey(raw), self._share_purpose(roster_hash, epoch, index), sealed))

    def _path(self, epoch: int) -> Path:
        return self.folder / f"{epoch}.key"

    def _key_purpose(self, roster_hash: RosterHash, epoch: int) -> SealedFor:
        return SealedFor(SealedKind.EPOCH_KEY, roster_hash, self._participant, epoch)

    def _share_purpose(self, roster_hash: RosterHash, epoch: int, index: int) -> SealedFor:
        return SealedFor(SealedKind.SHARE, roster_hash, self._participant, epoch, index)
