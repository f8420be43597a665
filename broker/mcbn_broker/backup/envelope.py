"""Encrypts a stream under a passphrase: Argon2id (RFC 9106), then ChaCha20-Poly1305 (RFC 8439) in chunks.

The chunks are those of STREAM (Hoang, Reyhanitabar, Rogaway and Vizár, 2015): the nonce is a counter and a byte that
says whether the chunk is the last one, so that chunks that are left out, exchanged or cut off are noticed. The key
belongs to one file, because its salt does.
"""

from collections.abc import Callable
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from mcbn_broker.backup.errors import BackupError
from mcbn_broker.ceremony.consent_keys import Argon2Cost
from mcbn_broker.ceremony.passphrase import Passphrase
from mcbn_protocol.encoding import b64u_encode, canonical, parse_canonical, u32be
from mcbn_protocol.errors import ProtocolError
from mcbn_protocol.fields import Fields

MAGIC: Final = b"mcbn-backup-v1\n"
CHUNK_BYTES: Final = 64 * 1024
_TAG_BYTES: Final = 16
_SALT_BYTES: Final = 16
_KEY_BYTES: Final = 32
_COUNTER_BYTES: Final = 11
_HEADER_BYTES_MAX: Final = 1024


class Writer(Protocol):
    """Takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Take all of them."""


class Reader(Protocol):
    """Gives bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, fewer only at the end."""


class _Chunks:
    def __init__(self, passphrase: Passphrase, cost: Argon2Cost, salt: bytes, header: bytes) -> None:
        kdf = Argon2id(
            salt=salt,
            length=_KEY_BYTES,
            iterations=cost.iterations,
            lanes=cost.lanes,
            memory_cost=cost.memory_kib,
        )
        self._cipher = ChaCha20Poly1305(kdf.derive(passphrase.reveal()))
        self._header = header
        self._counter = 0

    def seal(self, chunk: bytes, *, last: bool) -> bytes:
        return self._cipher.encrypt(self._next_nonce(last=last), chunk, self._header)

    def unseal(self, chunk: bytes, *, last: bool) -> bytes:
        return self._cipher.decrypt(self._next_nonce(last=last), chunk, self._header)

    def _next_nonce(self, *, last: bool) -> bytes:
        nonce = self._counter.to_bytes(_COUNTER_BYTES, "big") + bytes([last])
        self._counter += 1
        return nonce


class SealingStream:
    """Encrypts what is written to it; `finish` writes the last chunk, without which nobody can read it to its end."""

    def __init__(self, out: Writer, passphrase: Passphrase, random: Callable[[int], bytes]) -> None:
        salt, cost = random(_SALT_BYTES), Argon2Cost()
        fields = canonical({"argon2id": cost.to_json(), "salt": b64u_encode(salt)})
        header = MAGIC + u32be(len(fields)) + fields
        out.write(header)
        self._out = out
        self._chunks = _Chunks(passphrase, cost, salt, header)
        self._held = bytearray()

    def write(self, data: bytes) -> int:
        """Take plaintext."""
        self._held += data
        while len(self._held) > CHUNK_BYTES:  # never all of it: the last chunk has to be known as the last
            self._out.write(self._chunks.seal(bytes(self._held[:CHUNK_BYTES]), last=False))
            del self._held[:CHUNK_BYTES]
        return len(data)

    def finish(self) -> None:
        """Write the last chunk."""
        self._out.write(self._chunks.seal(bytes(self._held), last=True))


class OpeningStream:
    """Decrypts what `SealingStream` wrote. What it returns is authentic; that it is all, only `finish` says."""

    def __init__(self, source: Reader, passphrase: Passphrase) -> None:
        self._source = source
        cost, salt, header = _read_header(source)
        self._chunks = _Chunks(passphrase, cost, salt, header)
        self._ahead = source.read(CHUNK_BYTES + _TAG_BYTES)
        self._held = bytearray()
        self._ended = False
        self._first = True

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes of plaintext, fewer only at the end.

        Raises:
            BackupError: Another passphrase, or the file was changed or cut off.
        """
        while len(self._held) < size and not self._ended:
            self._next()
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    def finish(self) -> None:
        """Read what is left.

        Raises:
            BackupError: The file was changed or cut off.
        """
        while not self._ended:
            self._held.clear()
            self._next()

    def _next(self) -> None:
        chunk, self._ahead = self._ahead, self._source.read(CHUNK_BYTES + _TAG_BYTES)
        last = not self._ahead
        try:
            self._held += self._chunks.unseal(chunk, last=last)
        except (InvalidTag, ValueError) as error:
            raise BackupError(_DOES_NOT_OPEN if self._first else _CHANGED) from error
        self._first, self._ended = False, last


_DOES_NOT_OPEN: Final = (
    "this passphrase does not open the backup, or its beginning was changed: try again, or take an intact copy"
)
_CHANGED: Final = "the backup was changed or cut off after it was made: take an intact copy, or an older one"


def _read_header(source: Reader) -> tuple[Argon2Cost, bytes, bytes]:
    start = source.read(len(MAGIC) + 4)
    length = int.from_bytes(start[len(MAGIC) :], "big")
    if not start.startswith(MAGIC) or length > _HEADER_BYTES_MAX:
        raise BackupError("this is no backup that mcbn-broker made")
    text = source.read(length)
    try:
        with Fields(parse_canonical(text, limit=_HEADER_BYTES_MAX), "backup") as fields:
            with Fields(fields.take("argon2id"), "backup.argon2id") as inner:
                cost = Argon2Cost.from_fields(inner)
            salt = fields.base64url("salt", length=_SALT_BYTES)
    except ProtocolError as error:
        raise BackupError(f"the backup's header was changed or cut off: {error}; take an intact copy") from error
    return cost, salt, start + text
