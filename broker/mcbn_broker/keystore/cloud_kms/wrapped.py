"""The key-encryption key of a broker with a key in Cloud KMS: random, wrapped by that one, unwrapped at each start."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from mcbn_broker.errors import KeystoreError, NotReadyError
from mcbn_broker.keystore.cloud_kms.key import CloudKmsKey
from mcbn_broker.keystore.files import create_private, read_private
from mcbn_broker.keystore.identity import Identity
from mcbn_broker.keystore.kek import WRAPPED_NAME, KeyEncryptionKey
from mcbn_broker.keystore.sealing import KEY_BYTES
from mcbn_protocol.encoding import JsonObject, b64u_decode, b64u_encode, canonical, lp, parse_canonical
from mcbn_protocol.errors import ProtocolError
from mcbn_protocol.fields import Fields

FORMAT: Final = "mcbn-wrapped-kek-v1"
_LABEL: Final = "mcbn/at-rest/key-encryption-key/v1"
_BYTES_MAX: Final = 16 * 1024


def associated_data(identity: Identity) -> bytes:
    """Return LP(label) || LP(network) || LP(participant): one broker's wrapped key does not open as another's."""
    return lp(_LABEL) + lp(identity.network) + lp(identity.name)


def create_wrapped(
    key: CloudKmsKey, root: Path, identity: Identity, random: Callable[[int], bytes]
) -> KeyEncryptionKey:
    """Make a key-encryption key, and keep what the Cloud KMS key makes of it in the data directory.

    It is unwrapped once before it is used: a key that encrypts for us but does not decrypt would lock us out.

    Raises:
        KeystoreError: There is one already, Cloud KMS refused, or it cannot be written.
    """
    path = root / WRAPPED_NAME
    if path.exists():
        raise KeystoreError(f"{path} exists: leave out --create-kek to use it")
    kek, aad = KeyEncryptionKey(random(KEY_BYTES)), associated_data(identity)
    ciphertext = key.encrypt(kek.reveal(), aad)
    if KeyEncryptionKey(key.decrypt(ciphertext, aad)) != kek:
        raise KeystoreError(f"{key.name} does not decrypt what it encrypted: nothing was made")
    file: JsonObject = {"format": FORMAT, "kek": str(key.name), "ciphertext": b64u_encode(ciphertext)}
    create_private(path, canonical(file))
    return kek


def load_wrapped(key: CloudKmsKey, root: Path, identity: Identity) -> KeyEncryptionKey:
    """Unwrap the key-encryption key: one call to Cloud KMS.

    Raises:
        NotReadyError: None was made.
        KeystoreError: Made with another key, altered, or Cloud KMS refused.
    """
    path = root / WRAPPED_NAME
    if not path.exists():
        raise NotReadyError(
            f"{path} is not there: this broker's key-encryption key is not one of Cloud KMS. Give --kek-file, or "
            "make a new broker with init --create-kek"
        )
    ciphertext = _read(path, key)
    raw = key.decrypt(ciphertext, associated_data(identity))
    if len(raw) != KEY_BYTES:
        raise KeystoreError(f"{path} holds {len(raw)} bytes where a key-encryption key has {KEY_BYTES}")
    return KeyEncryptionKey(raw)


def _read(path: Path, key: CloudKmsKey) -> bytes:
    try:
        with Fields(parse_canonical(read_private(path), limit=_BYTES_MAX), WRAPPED_NAME) as fields:
            fields.exactly("format", FORMAT)
            wrapped_by = fields.text("kek", maximum=1000)
            ciphertext = fields.decoded("ciphertext", b64u_decode)
    except ProtocolError as error:
        raise KeystoreError(f"{path} was altered: {error}; restore it from a backup") from error
    if wrapped_by != str(key.name):
        raise KeystoreError(f"{path} was made with {wrapped_by}: give that one with --kek")
    return ciphertext
