"""The consent key's file: an Ed25519 key sealed under a passphrase (Argon2id, RFC 9106; RFC 8439)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from mcbn_broker.ceremony.passphrase import Passphrase
from mcbn_broker.errors import CeremonyError
from mcbn_protocol import limits
from mcbn_protocol.encoding import JsonObject, b64u_encode, canonical, lp, parse_canonical
from mcbn_protocol.fields import Fields
from mcbn_protocol.signatures import KEY_BYTES, check_public_key

FORMAT: Final = "mcbn-consent-key-v1"
LABEL: Final = "mcbn/consent-key/v1"
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_SEALED_BYTES: Final = KEY_BYTES + 16


@dataclass(frozen=True)
class Argon2Cost:
    """What one guess of the passphrase costs: passes over `memory_kib` KiB by `lanes` threads.

    The default is the second recommended option of RFC 9106 section 4. A file may ask for more, never for less, and not
    for so much that opening it takes the machine down.
    """

    iterations: int = 3
    lanes: int = 4
    memory_kib: int = 64 * 1024

    def to_json(self) -> JsonObject:
        """Return the file's form."""
        return {"iterations": self.iterations, "lanes": self.lanes, "memory_kib": self.memory_kib}

    @classmethod
    def from_fields(cls, fields: Fields) -> Self:
        """Read the file's form."""
        return cls(
            iterations=fields.integer("iterations", minimum=cls.iterations, maximum=64),
            lanes=fields.integer("lanes", minimum=1, maximum=64),
            memory_kib=fields.integer("memory_kib", minimum=cls.memory_kib, maximum=4 * 1024 * 1024),
        )


@dataclass(frozen=True)
class ConsentKeyFile:
    """A sealed consent key. What is shown of it is public; `unseal` needs the passphrase.

    Attributes:
        public_key: 32 bytes, as in the participant's card and the roster.
        cost: Of one guess of the passphrase.
        salt: Argon2id's, 16 bytes.
        nonce: The cipher's, 12 bytes.
        sealed: The private key, 32 bytes, and the tag, 16.
    """

    public_key: bytes
    cost: Argon2Cost
    salt: bytes
    nonce: bytes
    sealed: bytes

    @classmethod
    def make(cls, passphrase: Passphrase, *, random: Callable[[int], bytes]) -> Self:
        """Make a new consent key and seal it.

        Args:
            passphrase: What `unseal` will need.
            random: Gives that many secret random bytes; `os.urandom`.
        """
        private_key = Ed25519PrivateKey.from_private_bytes(random(KEY_BYTES))
        unsealed = cls(
            private_key.public_key().public_bytes_raw(), Argon2Cost(), random(_SALT_BYTES), random(_NONCE_BYTES), b""
        )
        sealed = unsealed._cipher(passphrase).encrypt(
            unsealed.nonce, private_key.private_bytes_raw(), unsealed._associated_data()
        )
        return cls(unsealed.public_key, unsealed.cost, unsealed.salt, unsealed.nonce, sealed)

    def unseal(self, passphrase: Passphrase) -> Ed25519PrivateKey:
        """Return the private key.

        Raises:
            CeremonyError: Another passphrase, or the file was changed.
        """
        try:
            raw = self._cipher(passphrase).decrypt(self.nonce, self.sealed, self._associated_data())
        except InvalidTag as error:
            raise CeremonyError(
                "this passphrase does not open the consent key: try again, or take the key's file from its backup"
            ) from error
        return Ed25519PrivateKey.from_private_bytes(raw)

    def _cipher(self, passphrase: Passphrase) -> ChaCha20Poly1305:
        cost = self.cost
        kdf = Argon2id(
            salt=self.salt,
            length=KEY_BYTES,
            iterations=cost.iterations,
            lanes=cost.lanes,
            memory_cost=cost.memory_kib,
        )
        return ChaCha20Poly1305(kdf.derive(passphrase.reveal()))

    def _associated_data(self) -> bytes:
        return lp(LABEL) + lp(self.public_key) + lp(self.salt) + lp(canonical(self.cost.to_json()))

    def to_bytes(self) -> bytes:
        """Return the file: canonical JSON."""
        return canonical(
            {
                "format": FORMAT,
                "public_key": b64u_encode(self.public_key),
                "argon2id": self.cost.to_json(),
                "salt": b64u_encode(self.salt),
                "nonce": b64u_encode(self.nonce),
                "sealed": b64u_encode(self.sealed),
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the file.

        Raises:
            MalformedError: Not a consent key's file, or one that is weaker than this program makes.
        """
        with Fields(parse_canonical(data, limit=limits.CARD_BYTES), "consent key") as fields:
            fields.exactly("format", FORMAT)
            with Fields(fields.take("argon2id"), "consent key.argon2id") as inner:
                cost = Argon2Cost.from_fields(inner)
            return cls(
                public_key=check_public_key(fields.base64url("public_key", length=KEY_BYTES)),
                cost=cost,
                salt=fields.base64url("salt", length=_SALT_BYTES),
                nonce=fields.base64url("nonce", length=_NONCE_BYTES),
                sealed=fields.base64url("sealed", length=_SEALED_BYTES),
            )
